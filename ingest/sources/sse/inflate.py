"""Content codings of a stream: none, or gzip where upstream compresses though it was asked not to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from ingest.formats.gzip import Gzip


class Inflater(Protocol):
    """One connection's decoding."""

    @property
    def pending(self) -> bool:
        """Return whether bytes came that have not become output."""
        ...

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Return what a chunk stands for, in pieces of bounded size. Raises zlib.error."""
        ...


class Identity:
    """No coding."""

    pending = False

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """See Inflater."""
        yield chunk


def inflater_for(encoding: str) -> Inflater | None:
    """Return the inflater of a Content-Encoding; None where it is none of ours."""
    name = encoding.strip().lower()
    if name in {"", "identity"}:
        return Identity()
    return Gzip() if name in {"gzip", "x-gzip"} else None
