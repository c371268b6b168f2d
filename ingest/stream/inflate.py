"""Content codings of a stream: none, or gzip where upstream compresses though it was asked not to."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Protocol

_PIECE_BYTES = 64 * 1024
_GZIP = zlib.MAX_WBITS | 16
_FLUSHED = b"\x00\x00\xff\xff"  # how a flush ends a block (RFC 1951 §3.2.4: an empty stored block)


class Inflater(Protocol):
    """One connection's decoding."""

    @property
    def pending(self) -> bool:
        """Whether bytes came that have not become output."""
        ...

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """What a chunk stands for, in pieces of bounded size. Raises zlib.error."""
        ...


class Identity:
    """No coding."""

    pending = False

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """See Inflater."""
        yield chunk


class Gzip:
    """gzip (RFC 1952), of a sender that flushes what it sends."""

    def __init__(self) -> None:
        self._inflater = zlib.decompressobj(_GZIP)
        self._tail = b""

    @property
    def pending(self) -> bool:
        """See Inflater."""
        return self._tail not in (b"", _FLUSHED)

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """See Inflater."""
        self._tail = (self._tail + chunk)[-len(_FLUSHED) :]
        while True:
            piece = self._inflater.decompress(chunk, _PIECE_BYTES)
            if piece:
                yield piece
            chunk = self._inflater.unconsumed_tail
            if self._inflater.eof:
                self._tail = b""
                return
            if not chunk and len(piece) < _PIECE_BYTES:
                return


def inflater_for(encoding: str) -> Inflater | None:
    """The inflater of a Content-Encoding; None where it is none of ours."""
    name = encoding.strip().lower()
    if name in {"", "identity"}:
        return Identity()
    return Gzip() if name in {"gzip", "x-gzip"} else None
