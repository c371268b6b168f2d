"""What the service and its writing process say to one another: MessagePack behind its length."""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import TypeVar

import msgspec

from storage.sqlite import FileIdentity

_T = TypeVar("_T")

LENGTH = Struct("<I")


class Opening(msgspec.Struct, array_like=True):
    """The database, and on SQLite the identity of its file. It comes first: everybody may read a command line."""

    url: str
    file: FileIdentity | None


class Question(msgspec.Struct, array_like=True):
    """A transaction's name and its packed arguments. `number`: from 1, for its answer."""

    number: int
    name: str
    arguments: bytes


class Answer(msgspec.Struct, array_like=True):
    """The packed answer to it; or the name of the error that it raised, its text, and what the work had returned."""

    number: int
    packed: bytes
    error: str | None = None
    text: str = ""


ALIVE = Answer(0, b"")  # to no question: it is there

_to_bytes = msgspec.msgpack.Encoder().encode


def framed(message: Opening | Question | Answer) -> bytes:
    """Return a message behind its length."""
    data = _to_bytes(message)
    return LENGTH.pack(len(data)) + data


def reader_of(type_: type[_T]) -> Callable[[bytes], _T]:
    """Return what reads a message behind its length."""
    return msgspec.msgpack.Decoder(type_).decode
