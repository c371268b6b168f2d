"""From a file and the environment to Settings; or to every fault at once, in plain sentences."""

from __future__ import annotations

import time
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from app.settings.environment import overridden, settings_variables
from app.settings.faults import Fault, Key, faults_of
from app.settings.interpolate import Interpolation, Lookup
from app.settings.model import Settings
from app.settings.rules import conflicts
from ingest.errors import ConfigurationError
from ingest.sources import modes, unusable

DEFAULT_FILE = Path("headrace.toml")
_FILTERS = frozenset({"names", "exclude", "products", "devices", "from"})
_SERVERS_FILES = frozenset({"tls_cert", "tls_key"})


def load(
    path: Path | None,
    environ: Mapping[str, str],
    *,
    host: str | None = None,
    port: int | None = None,
    clock: Callable[[], float] = time.monotonic,
    for_reading: bool = False,
) -> Settings:
    """The settings in force. `path` (or HEADRACE_CONFIG) must exist; without either, headrace.toml may be absent.

    The environment goes before the file, `host` and `port` before both. `clock` (seconds) says when the
    files of secrets are looked at again. Raises ConfigurationError with one line for each fault; none shows a value.
    An installed package whose mode cannot be used is one too.

    `for_reading`: of what is looked up only the store's has to be there, and nothing need fit together to serve. A
    handler or the table of a mode that refers to something else is known by its label alone.
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
    interpolation = Interpolation(lookup, variables, only="store" if for_reading else None)
    settings, faults = _validated(tree, interpolation)
    if settings is None:
        raise ConfigurationError("\n".join(sorted({fault.sentence(variables) for fault in faults})))
    return settings.read_from(folder, lookup.watched, _unused_tables(tree, settings))


def _unused_tables(tree: Mapping[str, Any], settings: Settings) -> list[tuple[str, str]]:
    return [
        (label, mode)
        for label, source in settings.sources.items()
        for mode in tree.get("sources", {}).get(label, {}).keys() & modes().keys() - set(source.modes)
    ]


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
    for_reading = interpolation.only is not None
    if for_reading:
        resolved = _readable(resolved, interpolation.left_out)
    faults = interpolation.faults
    try:
        settings = Settings.model_validate(resolved)
    except ValidationError as error:
        return None, [*faults, *_unexplained(faults_of(error, Settings, resolved), faults)]
    if not for_reading:
        faults += list(_unexplained(conflicts(settings), faults))
    return (None, faults) if faults else (settings, [])


def _readable(tree: dict[str, Any], left_out: Iterable[Key]) -> dict[str, Any]:
    """Return the tree without the tables that need what was left out, or files that only a server may read."""
    if isinstance(tree.get("server"), dict):
        tree["server"] = {key: value for key, value in tree["server"].items() if key not in _SERVERS_FILES}
    for table, *rest in left_out:
        if table == "handlers" and len(rest) > 1:
            kept = {key: value for key, value in tree[table][rest[0]].items() if key in _FILTERS}
            tree[table][rest[0]] = {"type": "log", **kept}
        elif table == "sources" and len(rest) > 2:
            tree[table][rest[0]].pop(rest[1], None)
        elif table in {"server", "access"}:
            tree.pop(table, None)
    return tree


def _unexplained(found: Iterable[Fault], earlier: Iterable[Fault]) -> Iterable[Fault]:
    """Without what only follows from a key that could not be looked up, such as `required`."""
    left_out = [fault.key for fault in earlier]
    return (fault for fault in found if not any(key[: len(fault.key)] == fault.key for key in left_out))
