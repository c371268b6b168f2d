"""Delivers lane after lane: one call for a lane at a time, in order, and no task for each."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from app.dispatcher.checkpointer import Checkpointer
from app.dispatcher.context import HandlerContext
from app.dispatcher.deadline import GIVEN_UP_AFTER, Deadline
from app.dispatcher.gate import Gate
from app.dispatcher.lanes import Delivery, Lane
from app.dispatcher.retry import Retry, attempt_of
from app.dispatcher.window import Window
from ingest.deliveries import Attempt, Parked
from ingest.delivery import DeliveryFailed, failure_of
from ingest.errors import StoreUnavailable
from ingest.retrying import is_cancelled

_IN_A_ROW = 64  # of one lane while others wait

log = structlog.get_logger(__name__)


class Worker:
    """One of a handler's `concurrency` workers.

    `gone` is done when its call did not return though it was cancelled: that delivery failed, and another worker has
    to take this one's checkpointer. A thread cannot be stopped, nor a coroutine that swallows its cancellation.
    """

    def __init__(self, context: HandlerContext, window: Window, checkpointer: Checkpointer, gate: Gate) -> None:
        settings, loop = context.settings, asyncio.get_running_loop()
        self._label = context.label
        self._handler = context.handler
        self._metrics = context.metrics
        self._time_slice = context.time_slice
        self._clock = context.clock
        self._window = window
        self._checkpointer = checkpointer
        self._gate = gate
        self._retry = Retry(settings.retry, context.random)
        self._timeout_seconds = settings.timeout.total_seconds()
        self._batch_events = settings.batch.events
        self._batch_seconds = settings.batch.wait.total_seconds()
        self._time = loop.time
        self._batch: Sequence[Delivery] = ()
        self._lanes: Sequence[Lane] = ()
        self.gone = loop.create_future()

    async def run(self) -> None:
        """Deliver until the window is closed."""
        deadline = Deadline(self._timeout_seconds, lambda: self._window.closed, self._give_up)
        try:
            while (lane := await self._window.ready.get()) is not None and not self._is_over():
                await (self._drain if self._batch_events == 1 else self._drain_together)(lane, deadline)
                if not self.gone.done():
                    self._window.ready.release(lane)
                    if self._gate.in_force:
                        self._gate.left(lane)
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
            in_force = self._gate.in_force
            if in_force and not self._gate.admits(lane):
                self._window.put_back(lane)
                return
            delivery = lane.take()
            if delivery is not None:
                if in_force:
                    await self._deliver_in_force((delivery,), (lane,), deadline)
                else:
                    await self._deliver((delivery,), (lane,), deadline, now)
            elif lane.is_idle():
                self._window.free(lane)
                return
            else:
                await self._refill(lane)
        self._window.ready.put(lane)

    async def _drain_together(self, lane: Lane, deadline: Deadline) -> None:
        """Deliver a batch that begins with what a lane has first, or look for what is parked in it."""
        now, lanes = await self._leave(), [lane]
        if self._gate.in_force and not self._gate.admits(lane):
            self._window.ready.filled(lane)
            self._window.put_back(lane)
            return
        if (first := lane.take()) is not None:
            await self._deliver_together(first, lanes, deadline, now)
        elif not lane.is_idle():
            await self._refill(lane)
        self._window.ready.filled(lane)
        if not self._is_over():
            for each in lanes:
                self._window.leave(each)

    async def _deliver_together(self, first: Delivery, lanes: list[Lane], deadline: Deadline, now: float) -> None:
        """Fill a batch behind its first event, and deliver it unless lanes are held by then."""
        batch, is_single, lane = [first], self._gate.is_single(), lanes[0]
        if not first.has_failed() and not is_single:
            lane.fill(batch, self._batch_events)
            if first.row is None and await self._gather(batch, lanes):
                now = await self._leave()
        self._window.ready.filled(lane)
        if self._window.ready.held and not is_single:
            while batch:
                batch[-1].lane.put_back(batch.pop())
        elif self._gate.in_force:
            await self._deliver_in_force(batch, lanes, deadline)
        elif not self._is_over():
            await self._deliver(batch, lanes, deadline, now)

    async def _gather(self, batch: list[Delivery], lanes: list[Lane]) -> bool:
        """Fill a batch of new events from other lanes too, and wait a while for more; return whether it waited."""
        ready, most, waited = self._window.ready, self._batch_events, False
        ends = self._time() + self._batch_seconds
        while len(batch) < most:
            while len(batch) < most and (lane := ready.get_new_nowait()) is not None:
                lanes.append(lane)
                lane.fill(batch, most)
            left = ends - self._time()
            if len(batch) == most or left <= 0 or self._window.closed or self._window.is_full():
                break
            await ready.wait_for_new(left)
            waited = True
            for lane in lanes:
                if not lane.is_held_back():
                    lane.fill(batch, most)
        return waited

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

    async def _deliver_in_force(self, batch: Sequence[Delivery], lanes: Sequence[Lane], deadline: Deadline) -> None:
        """Deliver what the gate has admitted while it is in force."""
        refusal = await self._gate.begin(batch)
        now = await self._leave()
        if self._is_over():
            return
        if refusal is None:
            await self._deliver(batch, lanes, deadline, now)
        else:
            self._batch, self._lanes = batch, lanes
            self._fail(refusal, 0.0)

    async def _deliver(self, batch: Sequence[Delivery], lanes: Sequence[Lane], deadline: Deadline, now: float) -> None:
        self._batch, self._lanes = batch, lanes
        events = [batch[0].event] if len(batch) == 1 else [delivery.event for delivery in batch]
        error = await deadline.attempt(self._handler.deliver, events, now)
        if self.gone.done():  # what it came to was settled long ago
            return
        seconds = self._time() - now
        self._metrics.took(seconds)
        if error is None:
            self._metrics.delivered += len(batch)
            if self._gate.troubled:
                self._gate.succeeded(lanes[0])
            if len(batch) == 1:
                self._window.delivered(batch[0])
            else:
                self._window.delivered_together(batch)
        else:
            self._fail(error, seconds)

    def _fail(self, error: BaseException, seconds: float) -> None:
        failure, alone = failure_of(error), len(self._batch) == 1
        attempt = attempt_of(failure, self._clock(), seconds)
        self._gate.failed(self._lanes[0], failure)
        rows = [self._park(each, failure, attempt, alone=alone) for each in self._batch]
        self._metrics.failed(failure.cause, rows, self._batch[0].event, error)
        for delivery, row in zip(self._batch, rows, strict=True):
            self._window.failed(delivery, row)

    def _park(self, delivery: Delivery, failure: DeliveryFailed, attempt: Attempt, *, alone: bool) -> Parked:
        before, gate = delivery.row, self._gate
        stood_still = gate.open_since(None if before is None else before.last_attempt_at(), attempt.at)
        return self._retry.park(
            delivery.event,
            before,
            failure,
            attempt,
            alone=alone,
            stands_still=gate.stands_still,
            stood_still=stood_still,
        )

    def _give_up(self) -> None:
        """Leave a call behind that does not end, and its lanes to others."""
        seconds = self._timeout_seconds * GIVEN_UP_AFTER
        if not self._batch or self._window.closed:
            return
        first = self._batch[0]
        identity = {"id": str(first.event.id), "position": first.position, "device": first.event.device}
        log.error("call_given_up", handler=self._label, seconds=seconds, events=len(self._batch), **identity)
        self.gone.set_result(None)
        self._fail(TimeoutError(f"did not return within {seconds:g} s, and was left behind"), seconds)
        for lane in self._lanes:
            self._window.ready.release(lane)
            self._window.ready.put(lane)

    async def _refill(self, lane: Lane) -> None:
        try:
            await self._checkpointer.refill(lane)
        except StoreUnavailable:  # its rows come again when they are fetched as due
            self._window.rest(lane)
