"""`${NAME}`, `${file:PATH}` and `$$` in every string of a configuration tree; what cannot be looked up names its key.

Strings under the keys of SECRET_KEYS and in SECRET_TABLES become Secrets: no later step ever holds them in the open.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from app.settings.faults import Fault, Key, dotted
from ingest.errors import ConfigurationError
from ingest.settings.fields import split_list
from ingest.settings.secret import Secret
from ingest.sources import modes

RECHECK_SECONDS = 1.0
SECRET_LISTS = frozenset({"read_tokens", "admin_tokens", "secrets"})
SECRET_KEYS = SECRET_LISTS | {"token", "password"}
SECRET_TABLES = frozenset({"headers"})

log = structlog.get_logger(__name__)

_REFERENCE = re.compile(r"\$(?:(?P<dollar>\$)|\{file:(?P<file>[^}]+)\}|\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)\})?")


class WatchedFile:
    """The text of a file without its trailing newline, read again when its mtime, size or inode changes.

    A file that vanishes or cannot be read later keeps its last text: a rotation in the middle of being written must
    not fail a request. That is logged, once. It is looked at once in RECHECK_SECONDS of `clock`, as a look costs more
    than a whole request may. `key` is where the configuration names it. Raises ConfigurationError where it cannot be
    read at first.
    """

    def __init__(self, path: Path, clock: Callable[[], float], key: Key) -> None:
        self.key = dotted(key)
        self._path = path
        self._clock = clock
        self._looked_at = clock()
        self._fault: str | None = None
        try:
            self._read()
        except (OSError, ValueError):
            raise ConfigurationError(f"the file {path} cannot be read") from None

    def __call__(self) -> str:
        """Return the current text."""
        now = self._clock()
        if now - self._looked_at >= RECHECK_SECONDS:
            self._looked_at = now
            self._look()
        return self._text

    def fault(self) -> str | None:
        """Return why the file cannot be read now; None where it can."""
        self()
        return self._fault

    def _look(self) -> None:
        before, self._fault = self._fault, None
        try:
            if self._state() != self._seen:
                self._read()
        except FileNotFoundError:
            self._fault = "its file is gone"
        except (OSError, ValueError) as error:
            self._fault = f"its file cannot be read ({getattr(error, 'strerror', None) or 'expected UTF-8'})"
        if self._fault != before:
            about = {"key": self.key, "file": str(self._path)}
            if self._fault is None:
                log.info("secret_read_again", **about)
            else:
                log.error("secret_not_read", **about, reason=self._fault, consequence="its last text stays in force")

    def _read(self) -> None:
        seen = self._state()  # before the text: a change in between shows at the next call
        self._text = self._path.read_text(encoding="utf-8").rstrip("\r\n")
        self._seen = seen

    def _state(self) -> tuple[int, int, int]:
        stat = os.stat(self._path)
        return stat.st_mtime_ns, stat.st_size, stat.st_ino


@dataclass(frozen=True, slots=True)
class Lookup:
    """The places where references are looked up: the environment, and files relative to `folder`; `clock` in
    seconds. `watched` gets the files that secrets follow.
    """

    environ: Mapping[str, str]
    folder: Path
    clock: Callable[[], float]
    watched: list[WatchedFile] = field(default_factory=list)

    def text(self, template: str, key: Key) -> str:
        """Return the text that `template` stands for now.

        Raises ConfigurationError, which does not repeat the template.
        """
        return "".join(part if isinstance(part, str) else part() for part in self._parts(template, key))

    def secret(self, template: str, key: Key) -> Secret:
        """Return a Secret that follows the files in `template`.

        Raises ConfigurationError, also where it is empty now.
        """
        parts = self._parts(template, key)
        self.watched.extend(part for part in parts if isinstance(part, WatchedFile))
        if all(isinstance(part, str) for part in parts):
            secret = Secret(self.text(template, key))
        elif len(parts) == 1:
            secret = Secret(parts[0])
        else:
            secret = Secret(lambda: "".join(part if isinstance(part, str) else part() for part in parts))
        if not secret.value():
            raise ConfigurationError("expected a secret that is not empty")
        return secret

    def _parts(self, template: str, key: Key) -> list[str | WatchedFile]:
        parts: list[str | WatchedFile] = []
        end = 0
        for match in _REFERENCE.finditer(template):
            parts += [template[end : match.start()], self._part(match, key)]
            end = match.end()
        return [part for part in [*parts, template[end:]] if part != ""]

    def _part(self, match: re.Match[str], key: Key) -> str | WatchedFile:
        if match["dollar"]:
            return "$"
        if match["file"]:
            return WatchedFile(self.folder / match["file"], self.clock, key)
        if not match["name"]:
            raise ConfigurationError("expected ${NAME}, ${file:PATH} or $$ (a dollar) where a single $ stands")
        if match["name"] not in self.environ:
            raise ConfigurationError(f"the environment variable {match['name']} is not set")
        return self.environ[match["name"]]


class Interpolation:
    """One pass over a tree; `faults` fills as it goes, and what could not be looked up is left out of the result.

    In the tables of modes that are not chosen nothing is a fault: they do not run. Where `only` is given, nothing is in
    other tables of the file either, and `left_out` are the keys there. `variables` are the keys that the environment
    gave; a list of secrets among them is split before anything is looked up, as secrets may hold commas.
    """

    def __init__(self, lookup: Lookup, variables: Collection[Key], only: str | None = None) -> None:
        self._lookup = lookup
        self._variables = variables
        self.only = only
        self.faults: list[Fault] = []
        self.left_out: list[Key] = []

    def table(self, table: Mapping[str, Any], key: Key = (), *, runs: bool = True) -> dict[str, Any]:
        """Return `table` with every string in it looked up."""
        idle = self._idle_modes(table) if len(key) == 2 and key[0] == "sources" else frozenset()
        return {
            name: new
            for name, value in table.items()
            for new in self._value(value, (*key, name), runs and name not in idle)
        }

    def _value(self, value: Any, key: Key, runs: bool) -> tuple[Any, ...]:
        """Return the new value, or nothing."""
        if isinstance(value, dict):
            return (self.table(value, key, runs=runs),)
        if isinstance(value, list):
            return ([new for index, item in enumerate(value) for new in self._value(item, (*key, index), runs)],)
        if isinstance(value, str) and key in self._variables and key[-1] in SECRET_LISTS:
            return self._secrets(value, key, runs)
        if isinstance(value, str):
            return self._text(value, key, runs)
        return (value,)

    def _secrets(self, text: str, key: Key, runs: bool) -> tuple[Any, ...]:
        try:
            return self._value(split_list(text), key, runs)
        except ValueError as error:
            self.faults.append(Fault(key, str(error)))
            return ()

    def _text(self, template: str, key: Key, runs: bool) -> tuple[str | Secret, ...]:
        *_, table, name = ("", *(part for part in key if isinstance(part, str)))
        secret = name in SECRET_KEYS or table in SECRET_TABLES
        try:
            return ((self._lookup.secret if secret else self._lookup.text)(template, key),)
        except ConfigurationError as error:
            if runs and self.only in {None, key[0]}:
                self.faults.append(Fault(key, str(error)))
                return ()
            self.left_out += [key] * runs
            return (Secret(""),) if secret else ()

    def _idle_modes(self, source: Mapping[str, Any]) -> frozenset[str]:
        chosen = source.get("mode", "webhook")
        try:
            running = split_list(self._lookup.text(chosen, ())) if isinstance(chosen, str) else chosen
        except (ConfigurationError, ValueError):
            running = []  # reported where the key itself is looked up or validated
        return frozenset(modes()) - frozenset(running if isinstance(running, list) else [])
