"""What the test upstream did, entry by entry, in memory and in a file as it goes; times are of `time.time()`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec

from tests.support.upstream.rules import DispatchLimits, Fault


class Listening(msgspec.Struct, frozen=True, tag="listening"):
    """The port takes connections from `at` on, or refuses them."""

    at: float
    listens: bool


class Opened(msgspec.Struct, frozen=True, tag="opened"):
    """A connection and the head of its request."""

    at: float
    connection: int
    head: str


class Answered(msgspec.Struct, frozen=True, tag="answered"):
    """A connection was told something else than a stream, or nothing."""

    at: float
    connection: int
    kind: str


class Hears(msgspec.Struct, frozen=True, tag="hears"):
    """From `at` on a connection is given events."""

    at: float
    connection: int


class Deaf(msgspec.Struct, frozen=True, tag="deaf"):
    """From `at` on it is not: a fault, an event that was dropped, or the client left."""

    at: float
    connection: int
    why: str


class Closed(msgspec.Struct, frozen=True, tag="closed"):
    """The connection is gone: closed by the client, or by a fault that leaves nothing open."""

    at: float
    connection: int


class Sent(msgspec.Struct, frozen=True, tag="sent"):
    """An event, published between `at` and `done`, by the connections that it was handed to and dropped for."""

    number: int
    at: float
    done: float
    handed: Sequence[int]
    dropped: Sequence[int]
    again: bool = False


class Struck(msgspec.Struct, frozen=True, tag="struck"):
    """A fault was struck."""

    at: float
    fault: Fault


class Paced(msgspec.Struct, frozen=True, tag="paced"):
    """Events are published at another pace from `at` on, or no more."""

    at: float
    pace: DispatchLimits


Entry = Listening | Opened | Answered | Hears | Deaf | Closed | Sent | Struck | Paced


class Journal:
    """Keeps entries in order; with a file they are in it as soon as `add` returns."""

    def __init__(self, path: Path | None = None) -> None:
        self.entries: list[Entry] = []
        self._file: BinaryIO | None = path.open("wb", buffering=0) if path else None

    def add(self, entry: Entry) -> None:
        """One more."""
        self.entries.append(entry)
        if self._file is not None:
            self._file.write(msgspec.json.encode(entry) + b"\n")

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


class Follower:
    """Reads a journal's file while it is being written."""

    def __init__(self, path: Path) -> None:
        self.entries: list[Entry] = []
        self._path = path
        self._offset = 0
        self._decoder = msgspec.json.Decoder(Entry)

    def read(self) -> Sequence[Entry]:
        """The entries that are new since the last call."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._offset)
            whole, newline, _ = file.read().rpartition(b"\n")
        self._offset += len(whole) + len(newline)
        new = [self._decoder.decode(line) for line in whole.splitlines()]
        self.entries += new
        return new


def now() -> float:
    """The clock of the entries, in seconds: the machine's, which the store goes by too."""
    return time.time()


def kinds(entries: Sequence[Entry]) -> list[type[Entry]]:
    """What happened, in order."""
    return [type(entry) for entry in entries]
