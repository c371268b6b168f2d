"""The event loop's spare time: the busier others keep the loop, the longer the Auditor rests between its steps."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

_MOST = 19.0  # a twentieth of the loop's time is the Auditor's however busy it is


class SpareTime:
    """Measures the work of one step, done in slices, and what others had to do on the loop meanwhile."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        """`clock` gives seconds; the loop's own may stand still while somebody works."""
        self._clock = clock
        self._worked = self._others = 0.0
        self._since = clock()

    def begin(self) -> None:
        """Begin to work, after having waited for something."""
        self._since = self._clock()

    async def give_way(self) -> None:
        """Let others do what there is to do by now."""
        ended = self._clock()
        self._worked += ended - self._since
        await asyncio.sleep(0)
        self._since = self._clock()
        self._others += self._since - ended

    async def rest(self) -> None:
        """End the step: rest so many times as long as it worked as others are busy, hardly where the loop is idle."""
        await asyncio.sleep(times_to_rest(self._others / max(self._worked, 1e-9)) * self._worked)
        self._worked = self._others = 0.0


def times_to_rest(busy: float) -> float:
    """Return how many times as long as it worked it is to rest, where others need this share of the loop's time.

    Hardly at a fifth, twice as long at a half, nine times at seven tenths.
    """
    return _MOST if busy >= 1 else min(_MOST, 8 * busy**3 / (1 - busy))
