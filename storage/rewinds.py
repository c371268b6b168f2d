"""Notices that the database was put back to an older state: a failover to a replica that lagged, a restored copy.

Positions are then given a second time, so whatever this process remembers of the first time is void.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import structlog

log = structlog.get_logger(__name__)


class Mark(NamedTuple):
    """The state of knowledge before the database was asked: the rewinds so far, and the highest position."""

    number: int
    known: int


class Rewinds:
    """The rewinds that this process has noticed: `number`, and the head at the last one (`floor`).

    `highest` is the highest position that it has ever known, also before a rewind.
    Store, feed and cursors share one, so that each rewind is logged and counted once, by `count`.
    """

    def __init__(self, count: Callable[[], None] = lambda: None) -> None:
        self.number = 0
        self.floor = 0
        self.highest = 0
        self._known = 0
        self._count = count

    def mark(self) -> Mark:
        """Return what is known; to be asked for before the database is."""
        return Mark(self.number, self._known)

    def reached(self, position: int) -> None:
        """Remember a position that is committed."""
        self._known = max(self._known, position)
        self.highest = max(self.highest, position)

    def compare(self, mark: Mark, head: int) -> None:
        """Notice a head that is lower than what was known at the `mark`."""
        if head < mark.known:
            self.notice(mark, head, f"its last position is {head} and was {mark.known}")

    def notice(self, mark: Mark, head: int, evidence: str) -> None:
        """Log and count a rewind, unless it was noticed since the `mark`."""
        if mark.number != self.number:
            return
        self.number += 1
        self.floor = self._known = head
        self._count()
        log.error(
            "store_rewound", evidence=evidence, consequence="what was stored since is gone; handlers begin again there"
        )
