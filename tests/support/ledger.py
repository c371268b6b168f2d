"""What the oracle knows of each number it sent: acknowledged, deferred, refused, or never answered."""

from __future__ import annotations

from enum import IntEnum
from pathlib import Path

import msgspec


class Fate(IntEnum):
    """The last word on a number. Only ACKNOWLEDGED promises that it is stored."""

    UNSENT = 0
    UNANSWERED = 1  # the connection was cut, or the driver was stopped, before an answer
    ACKNOWLEDGED = 2  # 204
    DEFERRED = 3  # 503: send it again
    REFUSED = 4  # any other answer


class Report(msgspec.Struct, kw_only=True):
    """What one run of the driver saw. Rates are requests per second, times seconds.

    `cut_sent_at` says when each request was sent that got no answer, by `time.monotonic`, which all processes share.
    """

    run: str
    answers: dict[str, int] = {}
    cut_sent_at: list[float] = []
    unreachable: int = 0
    seconds: float = 0.0
    rate: float = 0.0
    events_per_second: float = 0.0
    p50: float = 0.0
    p99: float = 0.0
    slowest: float = 0.0

    @property
    def cut(self) -> int:
        """How many requests got no answer because the connection ended."""
        return len(self.cut_sent_at)


class Ledger:
    """The fate of every number of a run."""

    def __init__(self, fates: bytes = b"") -> None:
        self._fates = bytearray(fates)

    def sent(self, first: int, size: int = 1) -> None:
        """These numbers go out now. What was acknowledged before stays so."""
        missing = first + size - len(self._fates)
        if missing > 0:
            self._fates.extend(bytes(missing))
        for number in range(first, first + size):
            if self._fates[number] != Fate.ACKNOWLEDGED:
                self._fates[number] = Fate.UNANSWERED

    def answered(self, first: int, size: int, status: int) -> None:
        """The answer to a request with these numbers."""
        fate = {204: Fate.ACKNOWLEDGED, 503: Fate.DEFERRED}.get(status, Fate.REFUSED)
        for number in range(first, first + size):
            if self._fates[number] != Fate.ACKNOWLEDGED:
                self._fates[number] = fate

    def learn(self, later: Ledger) -> None:
        """Take over what a later run with the same numbers was told."""
        for number in later.numbers(Fate.ACKNOWLEDGED):
            self.answered(number, 1, 204)

    def numbers(self, *fates: Fate) -> list[int]:
        """The numbers with one of these fates, ascending."""
        wanted = frozenset(fates)
        return [number for number, fate in enumerate(self._fates) if fate in wanted]

    def count(self, fate: Fate) -> int:
        """How many numbers have this fate."""
        return self._fates.count(fate)

    def write(self, path: Path) -> None:
        """Keep it in a file."""
        path.write_bytes(self._fates)

    @classmethod
    def read(cls, path: Path) -> Ledger:
        """A ledger that was written before."""
        return cls(path.read_bytes())
