"""Fewer lines of an outage: everybody who notices it says so again and again."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

import structlog
from structlog.typing import EventDict, WrappedLogger

# What is said because the store is away.
OUTAGE = frozenset(
    {
        "store_unavailable",
        "store_slow",
        "coverage_not_recorded",
        "leases_not_renewed",
        "opens_not_shared",
        "posting_failed",
        "comparison_failed",
        "retention_failed",
    }
)
_EVERY_SECONDS = 10.0


class Thinned:
    """A processor that lets each kind of line of an outage through once in `every_seconds`.

    The next one that is let through has `left_out`, the number of those that were not.
    """

    def __init__(self, every_seconds: float = _EVERY_SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        self._every_seconds = every_seconds
        self._clock = clock
        self._next: dict[str, float] = {}
        self._left_out: Counter[str] = Counter()

    def __call__(self, _logger: WrappedLogger, _method: str, line: EventDict) -> EventDict:
        """Return the line, or raise DropEvent."""
        kind = str(line.get("event"))
        if kind not in OUTAGE:
            return line
        now = self._clock()
        if now < self._next.get(kind, now):
            self._left_out[kind] += 1
            raise structlog.DropEvent
        self._next[kind] = now + self._every_seconds
        left_out = self._left_out.pop(kind, 0)
        return {**line, "left_out": left_out} if left_out else line
