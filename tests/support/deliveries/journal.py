"""What a receiver writes down before it answers: one JSON line for each connection, delivery and flood."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar
from uuid import UUID

import msgspec

from tests.support.deliveries.answers import Answer

T = TypeVar("T")
now = time.time


class Connected(msgspec.Struct, frozen=True, tag=True):
    """A connection, by number, that got through its handshake."""

    connection: int
    at: float


class Refused(msgspec.Struct, frozen=True, tag=True):
    """A connection that did not: a TLS fault."""

    answer: Answer
    at: float


class Delivered(msgspec.Struct, frozen=True, tag=True):
    """A request with an event: its `attempt` (1, 2, …) as the receiver counts, and what it was about to be answered.

    `at` is in seconds since 1970. `fault` says why its signature is wrong, or what else is; empty is good.
    """

    id: UUID
    attempt: int
    at: float
    connection: int
    answer: Answer
    fault: str = ""


class Flooded(msgspec.Struct, frozen=True, tag=True):
    """How much of a GiB was taken."""

    connection: int
    taken: int


class Journal:
    """A file that is written line by line, unbuffered: what is there was written before the answer."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._encode = msgspec.json.Encoder().encode

    def add(self, entry: Entry) -> None:
        """Write an entry."""
        os.write(self._file, self._encode(entry) + b"\n")


class Reader:
    """Follows a journal that another process writes. `entries` are those that were read so far."""

    def __init__(self, path: Path) -> None:
        self.entries: list[Entry] = []
        self._path = path
        self._at = 0

    def read(self) -> list[Entry]:
        """Read what is new; return all entries."""
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._at)
                whole, newline, _ = file.read().rpartition(b"\n")
                self._at += len(whole) + len(newline)
                self.entries += map(_decode, whole.splitlines())
        return self.entries

    def deliveries(self) -> list[Delivered]:
        """Read what is new; return all deliveries."""
        return kinds(self.read(), Delivered)


Entry = Connected | Refused | Delivered | Flooded
_decode = msgspec.json.Decoder(Entry).decode


def kinds(entries: Iterable[Entry], kind: type[T]) -> list[T]:
    """The entries of one kind."""
    return [entry for entry in entries if isinstance(entry, kind)]
