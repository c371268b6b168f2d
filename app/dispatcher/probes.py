"""The events that are tried while a handler's circuit is open: one at a time, and not always the same."""

from __future__ import annotations

import asyncio

from app.dispatcher.checkpointer import Checkpointer
from app.dispatcher.gate import Gate
from app.dispatcher.lanes import Lane
from app.dispatcher.window import Window

_NOTHING_SECONDS = 0.5  # until it is looked again for something to try


class Probes:
    """By turns the newest event before which nothing of its device is undelivered, and the oldest that is parked.

    So bad events do not keep the circuit open while others would be taken. One that fails as a probe is out of hand
    until it is read from the store again, so that the others come before it.
    """

    def __init__(self, gate: Gate, window: Window, checkpointer: Checkpointer) -> None:
        self._gate = gate
        self._window = window
        self._checkpointer = checkpointer
        self._newest_next = True

    async def try_one(self) -> None:
        """Let an event through when it is time. Raises StoreUnavailable, LeaseLost and StoreRewound."""
        await self._gate.wait_for_probe()
        for _ in range(2):
            is_newest, self._newest_next = self._newest_next, not self._newest_next
            lane = self._window.ready.take_newest() if is_newest else await self._oldest()
            if lane is not None:
                self._gate.let_through(lane)
                return
        await asyncio.sleep(_NOTHING_SECONDS)

    async def _oldest(self) -> Lane | None:
        ready = self._window.ready
        lane = ready.take_oldest_parked()
        if lane is None:
            await self._checkpointer.fetch_first()
            lane = ready.take_oldest_parked()
        return lane
