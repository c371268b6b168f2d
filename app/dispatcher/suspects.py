"""Events that may have ended the process that had the cursor before: tried one by one, each marked in the store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from app.dispatcher.context import STORE_AWAY, DispatchLimits
from app.dispatcher.lanes import Delivery
from app.dispatcher.window import Window
from ingest.delivery import DeliveryFailed, FailureCause, Verdict
from ingest.errors import StoreFault, StoreUnavailable
from ingest.protocols import Cursor
from ingest.retrying import Pauses

DEATHS = 3  # of the process while one event was marked: it is not tried any more


class Suspects:
    """What was in flight when the process died is not known, only that it was near the cursor, or parked and due.

    `deaths`: how often each marked event was the last one. `caught_up`: the feed had no more once, `all_fetched`: no
    more parked rows were due once.
    """

    def __init__(
        self, cursor: Cursor, deaths: Mapping[int, int], limits: DispatchLimits, draw: Callable[[float, float], float]
    ) -> None:
        self.caught_up = False
        self.all_fetched = False
        self._cursor = cursor
        self._deaths = deaths
        self._left_new = limits.window_events + limits.save_events  # what it had read, and what it had not saved
        self._left_parked = 2 * limits.retry_events
        self._draw = draw

    async def begin(self, delivery: Delivery) -> DeliveryFailed | None:
        """Mark an event whose delivery begins now; return why it must not, where it ended the process too often.

        Raises LeaseLost, StoreRewound and StoreFault.
        """
        if delivery.row is None:
            self._left_new -= 1
        else:
            self._left_parked -= 1
        died = self._deaths.get(delivery.position, 0)
        if died >= DEATHS:
            text = f"the process died {died} times while it was being delivered"
            return DeliveryFailed(FailureCause.CRASHED, Verdict.DEAD, text)
        await self._mark(delivery.position)
        return None

    def are_through(self, window: Window) -> bool:
        """Return whether all that could have been in flight has been tried."""
        new = self._left_new <= 0 or (self.caught_up and window.position == window.read_to)
        parked = self._left_parked <= 0 or (self.all_fetched and not window.has_parked_in_hand())
        return new and parked

    async def end(self) -> None:
        """Note that nothing marked is being delivered. Raises as `begin`."""
        await self._mark(None)

    async def _mark(self, position: int | None) -> None:
        pauses = Pauses(STORE_AWAY, self._draw)
        while True:
            try:
                await self._cursor.mark(position)
                return
            except StoreFault:
                raise
            except StoreUnavailable:
                await asyncio.sleep(pauses.next_seconds())
