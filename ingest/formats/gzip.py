"""gzip (RFC 1952), of one member or of as many as a sender likes, in bounded memory and in time linear in the bytes."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from ingest.errors import TooLarge

_PIECE_BYTES = 64 * 1024
_SLICE_BYTES = 4 * 1024  # of what is fed at once: each member's end copies what is left of it
_GZIP = zlib.MAX_WBITS | 16
_FLUSHED = b"\x00\x00\xff\xff"  # how a flush ends a block (RFC 1951 §3.2.4: an empty stored block)
_LEAST_HEADER_BYTES = 10


class MalformedGzip(ValueError):
    """The body says it is gzip (RFC 1952), and is cut off or something else."""


class InflatesTooFar(TooLarge):
    """The body stands for more bytes than were allowed."""


class Gzip:
    """Inflates bytes as they come. Zeros between members and behind the last one are padding."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(_GZIP)
        self._member_bytes = 0
        self._tail = b""  # of the member

    @property
    def in_member(self) -> bool:
        """Return whether a member has begun and not ended."""
        return self._member_bytes > 0

    @property
    def pending(self) -> bool:
        """Return whether bytes have not become output yet, of a sender that flushes what it sends or ends a member.

        The header alone, which some senders write ahead of what they will say, stands for nothing.
        """
        return self._member_bytes > _LEAST_HEADER_BYTES and self._tail != _FLUSHED

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yield what a chunk stands for, in pieces of at most 64 KiB. Raises zlib.error."""
        for start in range(0, len(chunk), _SLICE_BYTES):
            yield from self._inflate(chunk[start : start + _SLICE_BYTES])

    def _inflate(self, rest: bytes) -> Iterator[bytes]:
        while True:
            if not self._member_bytes and not (rest := rest.lstrip(b"\0")):
                return
            piece = self._member.decompress(rest, _PIECE_BYTES)
            left = self._member.unused_data or self._member.unconsumed_tail
            taken = len(rest) - len(left)
            self._member_bytes += taken
            self._tail = (self._tail + rest[:taken])[-len(_FLUSHED) :]
            if piece:
                yield piece
            if self._member.eof:
                self._member, self._member_bytes, self._tail = zlib.decompressobj(_GZIP), 0, b""
            elif not left and len(piece) < _PIECE_BYTES:
                return
            rest = left


def gunzip(body: bytes, max_bytes: int) -> bytes:
    """Inflate a whole body. Raises InflatesTooFar beyond `max_bytes`, without inflating further, and MalformedGzip."""
    gzip, inflated, room = Gzip(), list[bytes](), max_bytes
    try:
        for piece in gzip.feed(body):
            inflated.append(piece)
            room -= len(piece)
            if room < 0:
                raise InflatesTooFar(f"a body of more than {max_bytes} bytes when inflated")
    except zlib.error as error:
        raise MalformedGzip(str(error)) from None
    if gzip.in_member:
        raise MalformedGzip("cut off")
    return b"".join(inflated)
