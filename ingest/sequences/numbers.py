"""A source's rules about its devices' counter, and the number that an event carries."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple
from zlib import crc32

from ingest.event import Event
from ingest.formats.pointer import make_finder
from ingest.identity import canonicalize
from ingest.sequences.state import DIGEST_BYTES

_WHOLE = re.compile(rb'\s*("?)([0-9]{1,18})\1\s*')
_DIGESTS = (1 << 8 * DIGEST_BYTES) - 1


class SequenceRules(NamedTuple):
    """`first`: what a run begins with; `modulus`: where the counter wraps; `grace` in microseconds."""

    grace: int
    first: int | None = None
    modulus: int | None = None
    by_epoch: bool = False


class FoundNumber(NamedTuple):
    """A number, a digest of the data that it came with, and of the epoch; None where there is none."""

    number: int
    digest: bytes
    epoch: int | None


class NumberReader:
    """Finds the number of each event of one source. `number` and `epoch` are the tokens of pointers into the data."""

    def __init__(self, number: Sequence[str], names: Sequence[str] = (), epoch: Sequence[str] | None = None) -> None:
        self._number = make_finder(number)
        self._names = tuple(names)
        self._epoch = None if epoch is None else make_finder(epoch)

    def read(self, event: Event) -> FoundNumber | None:
        """Return the number of an event, None where it carries none: a whole number from 0, of at most 18 digits.

        It may be a text of digits.
        """
        if event.data is None or (self._names and not event.name.startswith(self._names)):
            return None
        data = canonicalize(event.data)[0]
        found = self._number(data)
        match = None if found is None else _WHOLE.fullmatch(found)
        if match is None:
            return None
        if self._epoch is None:
            return FoundNumber(int(match[2]), (crc32(data) & _DIGESTS or 1).to_bytes(DIGEST_BYTES, "little"), None)
        epoch = self._epoch(data)
        return FoundNumber(int(match[2]), b"", None if epoch is None else crc32(epoch))
