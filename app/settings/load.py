"""From a file and the environment to Settings; or to every fault at once, in plain sentences."""

from __future__ import annotations

import time
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from app.settings.environment import overridden, settings_variables
from app.settings.faults import Fault, faults_of
from app.settings.interpolate import Interpolation, Lookup
from app.settings.model import Settings
from app.settings.rules import conflicts
from ingest.errors import ConfigurationError
from ingest.sources import unusable

DEFAULT_FILE = Path("headrace.toml")


def load(
    path: Path | None,
    environ: Mapping[str, str],
    *,
    host: str | None = None,
    port: int | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Settings:
    """The settings in force. `path` (or HEADRACE_CONFIG) must exist; without either, headrace.toml may be absent.

    The environment goes before the file, `host` and `port` before both. `clock` (seconds) says when the
    files of secrets are looked at again. Raises ConfigurationError with one line for each fault; none shows a value.
    An installed package whose mode cannot be used is one too.
    """
    if unusable():
        raise ConfigurationError("\n".join(unusable()))
    file = _file(path, environ)
    variables = settings_variables(environ)
    tree = read_file(file) if file else {}
    for key, text in variables.items():
        tree = overridden(tree, key, text)
    for name, value in (("host", host), ("port", port)):
        tree = tree if value is None else overridden(tree, ("server", name), value)
    folder = (file or DEFAULT_FILE).absolute().parent
    lookup = Lookup(environ, folder, clock)
    settings, faults = _validated(tree, Interpolation(lookup, variables))
    if settings is None:
        raise ConfigurationError("\n".join(sorted({fault.sentence(variables) for fault in faults})))
    return settings.read_from(folder, lookup.watched)


def _file(path: Path | None, environ: Mapping[str, str]) -> Path | None:
    named = path or (Path(environ["HEADRACE_CONFIG"]) if environ.get("HEADRACE_CONFIG") else None)
    return named or (DEFAULT_FILE if DEFAULT_FILE.exists() else None)


def read_file(path: Path) -> dict[str, Any]:
    """The tree that a TOML file holds. Raises ConfigurationError, with the place where it is malformed."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise ConfigurationError(f"{path}: there is no such configuration file") from None
    except OSError as error:
        raise ConfigurationError(f"{path}: the file cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path}: expected UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path}: expected TOML: {error}") from None


def _validated(tree: Mapping[str, Any], interpolation: Interpolation) -> tuple[Settings | None, list[Fault]]:
    resolved = interpolation.table(tree)
    faults = interpolation.faults
    try:
        settings = Settings.model_validate(resolved)
    except ValidationError as error:
        return None, [*faults, *_unexplained(faults_of(error, Settings, resolved), faults)]
    faults += list(_unexplained(conflicts(settings), faults))
    return (None, faults) if faults else (settings, [])


def _unexplained(found: Iterable[Fault], earlier: Iterable[Fault]) -> Iterable[Fault]:
    """Without what only follows from a key that could not be looked up, such as `required`."""
    left_out = [fault.key for fault in earlier]
    return (fault for fault in found if not any(key[: len(fault.key)] == fault.key for key in left_out))
