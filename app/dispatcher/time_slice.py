"""Keeps the event loop free for the ingestion while workers have more than enough to do."""

from __future__ import annotations

import asyncio

_TURN_SECONDS = 0.002


class TimeSlice:
    """The time that all workers together may take in one round of the event loop: two milliseconds."""

    def __init__(self) -> None:
        self._ends = 0.0
        self._asked = False

    def is_over(self, now: float) -> bool:
        """Whether it is time to `step_back`, at loop time `now`."""
        return now >= self._ends

    async def step_back(self) -> None:
        """Let everybody else run first."""
        if not self._asked:
            self._asked = True
            asyncio.get_running_loop().call_soon(self._begin)
        await asyncio.sleep(0)

    def _begin(self) -> None:
        self._asked = False
        self._ends = asyncio.get_running_loop().time() + _TURN_SECONDS
