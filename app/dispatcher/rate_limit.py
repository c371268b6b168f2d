"""A bound on how many deliveries begin in a second."""

from __future__ import annotations

_BURST_SECONDS = 0.05  # what a timer that fires late must not cost
_LEAST_SECONDS = 0.01


class RateLimit:
    """A bucket that fills with `rate` a second, and holds what comes in fifty milliseconds. Times are of a loop."""

    def __init__(self, rate: float) -> None:
        self._seconds = 1 / rate
        self._next_at = 0.0

    def opens_at(self, now: float) -> float:
        """Return when the next delivery may begin: now, or so much later that a timer is worth it."""
        return now if self._next_at <= now else max(self._next_at, now + _LEAST_SECONDS)

    def spend(self, count: int, now: float) -> None:
        """Count deliveries that begin now, also more than there are in it."""
        self._next_at = max(self._next_at, now - _BURST_SECONDS) + count * self._seconds
