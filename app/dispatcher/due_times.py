"""The times at which parked rows are due, as far as they were parked here: by them the rows are fetched in time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from heapq import heappop, heappush

from ingest.retrying import wait_at_most


class DueTimes:
    """Times of day, the next one first."""

    def __init__(self) -> None:
        self._times: list[datetime] = []
        self._sooner = asyncio.Event()
        self._is_hurried = False

    def add(self, due_at: datetime) -> None:
        """Note that a row is due then."""
        heappush(self._times, due_at)
        if self._times[0] is due_at:
            self._sooner.set()

    def hurry(self) -> None:
        """End the present wait, or the next one."""
        self._is_hurried = True
        self._sooner.set()

    async def wait(self, least_seconds: float, most_seconds: float, clock: Callable[[], datetime]) -> None:
        """Return when a row is due, or `hurry` was called, but not before and not after these times."""
        time = asyncio.get_running_loop().time
        ends = time() + most_seconds
        await asyncio.sleep(least_seconds)
        while not self._is_hurried and (left := min(ends - time(), self._seconds(clock()))) > 0:
            self._sooner.clear()
            await wait_at_most(self._sooner, left)
        self._is_hurried = False
        now = clock()
        while self._times and self._times[0] <= now:
            heappop(self._times)

    def _seconds(self, now: datetime) -> float:
        """Return how long it is until the next one."""
        return (self._times[0] - now).total_seconds() if self._times else float("inf")
