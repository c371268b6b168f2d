"""Waits before something is tried again: how long they are, and how to make them without losing a stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

Draw = Callable[[float, float], float]  # a number between two, evenly: random.uniform

_MOST_DOUBLINGS = 60  # beyond any `longest`; a float cannot hold two to the power of a bad night


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits in seconds that double with each failure in a row, from `first` up to `longest`.

    `jitter` is the share of a wait that is left to chance: 1.0 is "full jitter", 0.5 "equal jitter" (Brooker,
    "Exponential Backoff And Jitter", AWS 2015). No wait is shorter than `least`.
    """

    first: float
    longest: float
    jitter: float = 0.5
    least: float = 0.0

    def seconds(self, failures: int, draw: Draw) -> float:
        """Return the wait after so many failures in a row, at least one."""
        most = min(self.longest, self.first * 2.0 ** min(failures - 1, _MOST_DOUBLINGS))
        return draw(max(self.least, most * (1 - self.jitter)), most)


class Pauses:
    """The waits of one thing that is tried again and again; they begin anew after a success."""

    def __init__(self, backoff: Backoff, draw: Draw) -> None:
        self._backoff = backoff
        self._draw = draw
        self._failures = 0

    def next_seconds(self) -> float:
        """Count a failure, and return how long to wait after it."""
        self._failures += 1
        return self._backoff.seconds(self._failures, self._draw)

    def reset(self) -> None:
        """Count a success."""
        self._failures = 0


def is_cancelled() -> bool:
    """Return whether somebody asked the present task to stop, whatever became of the CancelledError.

    Drivers turn it into errors of their own, and asyncio.wait_for of Python 3.11 may swallow it.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def wait_at_most(event: asyncio.Event, seconds: float) -> bool:
    """Return when the event is set, or after so many seconds; whether it is set.

    Python 3.11's asyncio.wait_for loses a cancellation that comes together with the event (python/cpython#86296).
    """
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
    return event.is_set()
