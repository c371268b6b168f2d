"""Keeps the home loop free for the ingestion while workers have more than enough to do."""

from __future__ import annotations

import asyncio
import contextlib

_TURN_SECONDS = 0.002


class TimeSlice:
    """The time that workers together may take before the home loop has a round: two milliseconds.

    `home`: the home loop, where the workers run in another one. The threads share one interpreter lock, for which the
    home loop would otherwise wait at each of its system calls.
    """

    def __init__(self, home: asyncio.AbstractEventLoop | None = None) -> None:
        self._home = home
        self._begun = asyncio.Event()
        self._ends = 0.0
        self._asked = False

    def is_over(self, now: float) -> bool:
        """Return whether it is time to `step_back`, at loop time `now`."""
        return now >= self._ends

    async def step_back(self) -> None:
        """Let everybody else run first."""
        loop = asyncio.get_running_loop()
        if not self._asked:
            self._asked = True
            if self._home is None:
                loop.call_soon(self._begin)
            else:
                self._begun.clear()
                self._home.call_soon_threadsafe(self._answer, loop)
        await (asyncio.sleep(0) if self._home is None else self._begun.wait())

    def _answer(self, asker: asyncio.AbstractEventLoop) -> None:
        with contextlib.suppress(RuntimeError):  # it is over
            asker.call_soon_threadsafe(self._begin)

    def _begin(self) -> None:
        self._asked = False
        self._ends = asyncio.get_running_loop().time() + _TURN_SECONDS
        self._begun.set()
