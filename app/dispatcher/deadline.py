"""Bounds the time of calls that are mostly too short to notice, at a price they do not notice either."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from ingest.event import Event


class Deadline:
    """One timer for the calls that a task makes one after another; asyncio.timeout would set one up for each."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._timer: asyncio.TimerHandle | None = None
        self._ends: float | None = None
        self._expired = False

    async def attempt(self, deliver: Callable[[Event], Awaitable[None]], event: Event, now: float) -> Exception | None:
        """Deliver an event from `now` (loop time) on, and return what went wrong; a cancelled task stays cancelled."""
        self._ends = now + self._seconds
        if self._timer is None:
            self._timer = self._loop.call_at(self._ends, self._ring)
        try:
            await deliver(event)
        except asyncio.CancelledError:
            if self._is_cancelled():
                raise
            late = TimeoutError(f"not done within {self._seconds:g} s")
            return late if self._expired else RuntimeError("the handler cancelled itself")
        except SystemExit as error:
            return RuntimeError(f"the handler called sys.exit({error.code!r})")
        except Exception as error:  # the handler is somebody else's code: whatever it raises is a failed delivery
            return error
        else:
            return None
        finally:
            self._ends = None
            if self._expired:
                self._reset()

    def close(self) -> None:
        """Disarm the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def _ring(self) -> None:
        self._timer = None
        if self._ends is None or self._task is None:
            return
        if self._loop.time() < self._ends:  # the call it was set for ended long ago
            self._timer = self._loop.call_at(self._ends, self._ring)
            return
        self._expired = True
        self._task.cancel()

    def _is_cancelled(self) -> bool:
        """Whether somebody else asked the task to stop."""
        return self._task is not None and self._task.cancelling() > self._expired

    def _reset(self) -> None:
        self._expired = False
        if self._task is not None:
            self._task.uncancel()
