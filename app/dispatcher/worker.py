"""Delivers lane after lane: one event of a lane at a time, in order, and no task for each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime

import structlog

from app.dispatcher.checkpointer import Checkpointer
from app.dispatcher.context import HandlerMetrics
from app.dispatcher.deadline import GIVEN_UP_AFTER, Deadline
from app.dispatcher.lanes import Delivery, Lane
from app.dispatcher.retry import Retry
from app.dispatcher.time_slice import TimeSlice
from app.dispatcher.window import Window
from ingest.errors import StoreUnavailable
from ingest.protocols import Handler
from ingest.retrying import is_cancelled

_IN_A_ROW = 64  # of one lane while others wait

log = structlog.get_logger(__name__)


class Worker:
    """One of a handler's `concurrency` workers.

    `gone` is done when its call did not return though it was cancelled: that delivery failed, and another worker has
    to take this one's checkpointer. A thread cannot be stopped, nor a coroutine that swallows its cancellation.
    """

    def __init__(
        self,
        label: str,
        handler: Handler,
        timeout_seconds: float,
        window: Window,
        checkpointer: Checkpointer,
        retry: Retry,
        metrics: HandlerMetrics,
        time_slice: TimeSlice,
        clock: Callable[[], datetime],
    ) -> None:
        self._label = label
        self._handler = handler
        self._timeout_seconds = timeout_seconds
        self._window = window
        self._checkpointer = checkpointer
        self._retry = retry
        self._metrics = metrics
        self._time_slice = time_slice
        self._clock = clock
        loop = asyncio.get_running_loop()
        self._time = loop.time
        self._delivery: Delivery | None = None
        self.gone = loop.create_future()

    async def run(self) -> None:
        """Deliver until the window is closed."""
        deadline = Deadline(self._timeout_seconds, lambda: self._window.closed, self._give_up)
        try:
            while (lane := await self._window.ready.get()) is not None and not self._is_over():
                await self._drain(lane, deadline)
                if not self.gone.done():
                    self._window.ready.release(lane)
        finally:
            deadline.close()

    def _is_over(self) -> bool:
        return self._window.closed or is_cancelled() or self.gone.done()

    async def _drain(self, lane: Lane, deadline: Deadline) -> None:
        """Deliver what a lane holds, parked events first; leave it as soon as it has to rest."""
        for _ in range(_IN_A_ROW):
            now = await self._leave()
            if self._is_over():
                return
            delivery = lane.take()
            if delivery is not None:
                await self._deliver(delivery, deadline, now)
            elif lane.is_idle():
                self._window.free(lane)
                return
            else:
                await self._refill(lane)
        self._window.ready.put(lane)

    async def _leave(self) -> float:
        """Wait until a delivery may begin; return the loop's time."""
        now = self._time()
        if self._time_slice.is_over(now):
            await self._time_slice.step_back()
            now = self._time()
        if not self._checkpointer.is_sure(now):
            await self._checkpointer.wait_until_sure()
            now = self._time()
        return now

    async def _deliver(self, delivery: Delivery, deadline: Deadline, now: float) -> None:
        self._delivery = delivery
        error = await deadline.attempt(self._handler.deliver, delivery.event, now)
        if self.gone.done():  # what it came to was settled long ago
            return
        self._metrics.took(self._time() - now)
        if error is None:
            self._metrics.delivered += 1
            self._window.delivered(delivery)
        else:
            self._fail(delivery, error)

    def _fail(self, delivery: Delivery, error: BaseException) -> None:
        row = self._retry.park(delivery.event, delivery.row, error, self._clock())
        self._metrics.failed(row)
        self._window.failed(delivery, row)

    def _give_up(self) -> None:
        """Leave a call behind that does not end, and its lane to others."""
        delivery, seconds = self._delivery, self._timeout_seconds * GIVEN_UP_AFTER
        if delivery is None or self._window.closed:
            return
        identity = {"id": str(delivery.event.id), "position": delivery.position, "device": delivery.event.device}
        log.error("call_given_up", handler=self._label, seconds=seconds, **identity)
        self.gone.set_result(None)
        self._fail(delivery, TimeoutError(f"did not return within {seconds:g} s, and was left behind"))
        self._window.ready.release(delivery.lane)
        self._window.ready.put(delivery.lane)

    async def _refill(self, lane: Lane) -> None:
        try:
            await self._checkpointer.refill(lane)
        except StoreUnavailable:  # its rows come again when they are fetched as due
            self._window.rest(lane)
