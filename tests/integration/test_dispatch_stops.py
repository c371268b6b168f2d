"""A dispatcher that is stopped, or cancelled, while a delivery is in flight."""

from __future__ import annotations

import asyncio

import pytest

from app.dispatcher import DispatchLimits
from ingest.event import Event
from tests.support.dispatching import (
    Recorder,
    Stage,
    an_event,
    passed,
    running,
)


async def test_stopping_lets_what_is_in_flight_finish(stage: Stage) -> None:
    """A stop takes up nothing new, waits for the delivery, saves the place and gives the cursor back."""
    entered, release = asyncio.Event(), asyncio.Event()

    async def behave(_event: Event) -> None:
        entered.set()
        await release.wait()

    handler = Recorder(behave)
    await stage.commit([an_event(1), an_event(2)])
    dispatcher = stage.dispatcher(handler, pace=DispatchLimits())
    async with running(dispatcher) as task:
        await entered.wait()
        dispatcher.stop()
        release.set()
        await task

    assert handler.positions == [1]
    assert handler.closed
    assert (await passed(stage, 1)).position == 1
    assert await stage.cursors.acquire("h", holder="next", begin="now") is not None


async def test_stopping_does_not_wait_for_ever(stage: Stage) -> None:
    """A delivery that does not end is cut off when the drain is over; the event comes again at the next start."""
    entered = asyncio.Event()

    async def hang(_event: Event) -> None:
        entered.set()
        await asyncio.Event().wait()

    await stage.commit([an_event(1)])
    dispatcher = stage.dispatcher(Recorder(hang), pace=DispatchLimits(drain_seconds=0.02))
    async with running(dispatcher) as task:
        await entered.wait()
        dispatcher.stop()
        await task

    following = Recorder()
    async with running(stage.dispatcher(following)):
        await passed(stage, 1)
    assert following.positions == [1]


async def test_cancelling_ends_at_once(stage: Stage) -> None:
    """A cancelled dispatcher leaves no task behind, and its handlers are closed."""
    entered = asyncio.Event()

    async def hang(_event: Event) -> None:
        entered.set()
        await asyncio.Event().wait()

    handler = Recorder(hang)
    await stage.commit([an_event(1)])
    before = asyncio.all_tasks()
    task = asyncio.create_task(stage.dispatcher(handler).run())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert asyncio.all_tasks() == before
    assert handler.closed
