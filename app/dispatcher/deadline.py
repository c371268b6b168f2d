"""Bounds the time of a handler's calls, most of which are too short for a timer of their own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence

from ingest.event import Event

GIVEN_UP_AFTER = 10  # times the timeout


class Deadline:
    """One timer for the calls that a task makes one after another.

    0.3 µs for a call, where asyncio.timeout takes 5 and a second one, to give up, 9 (uvloop, Python 3.11): a delivery
    takes 16 in all.

    `ending`: whether the task may be cancelled from outside now. Otherwise the code that it calls has cancelled it.
    `give_up` is called when a call that was cancelled has not returned after ten times its time.
    """

    def __init__(self, seconds: float, ending: Callable[[], bool], give_up: Callable[[], None]) -> None:
        self._seconds = seconds
        self._ending = ending
        self._give_up = give_up
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._timer: asyncio.TimerHandle | None = None
        self._ends: float | None = None
        self._expired = False

    async def attempt(
        self, deliver: Callable[[Sequence[Event]], Awaitable[None]], events: Sequence[Event], now: float
    ) -> BaseException | None:
        """Deliver events from `now` (loop time) on, and return what went wrong; a cancelled task stays cancelled."""
        self._ends = now + self._seconds
        if self._timer is None:
            self._timer = self._loop.call_at(self._ends, self._ring)
        outcome: BaseException | None = None
        try:
            await deliver(events)
        except asyncio.CancelledError:
            if self._is_cancelled():
                raise
            late = TimeoutError(f"not done within {self._seconds:g} s")
            outcome = late if self._expired else RuntimeError("the handler cancelled itself")
        except SystemExit as error:
            outcome = RuntimeError(f"the handler called sys.exit({error.code!r})")
        except BaseException as error:  # the handler is somebody else's code: whatever it raises is a failed delivery
            outcome = error
        self._ends = None
        if self._task is not None and self._task.cancelling() and not self._is_cancelled():
            await self._go_on(self._task)
        return outcome

    def close(self) -> None:
        """Disarm the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self) -> None:
        self._timer = None
        if self._ends is None or self._task is None:
            return
        if self._loop.time() < self._ends:  # the call it was set for ended long ago
            self._timer = self._loop.call_at(self._ends, self._ring)
            return
        if self._expired:
            self._give_up()
            return
        self._expired = True
        self._task.cancel()
        self._ends += self._seconds * (GIVEN_UP_AFTER - 1)
        self._timer = self._loop.call_at(self._ends, self._ring)

    def _is_cancelled(self) -> bool:
        """Return whether the task was asked to stop by whoever runs it."""
        return self._task is not None and self._task.cancelling() > self._expired and self._ending()

    async def _go_on(self, task: asyncio.Task[None]) -> None:
        """Let the task go on as if nobody had cancelled it, also where that has not been raised in it yet."""
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0)
        if self._expired:
            self._expired = False
            self.close()
        while task.cancelling() and not self._is_cancelled():
            task.uncancel()
