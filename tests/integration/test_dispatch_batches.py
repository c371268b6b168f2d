"""Handlers that take batches: what is in one, how long it waits, and how one bad event in it is separated."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random
from typing import Any

import pytest

from app.handlers.python import AsyncHandler, ThreadHandler
from ingest.errors import DeadLetter
from ingest.event import Event
from storage import deliveries as rows
from tests.support.dispatching import Recorder, Stage, an_event, running, until

AT_ONCE = {"base": "1ms", "cap": "5ms"}
LONG = "1h"


async def settled(stage: Stage, position: int, dead: int = 0) -> None:
    """Wait until the handler passed `position`, nothing waits, and so many are dead."""
    async with asyncio.timeout(20):
        while True:
            lag = await stage.database.read(rows.lag, "h")
            if lag is not None and (lag.position, lag.waiting, lag.dead) == (position, 0, dead):
                return
            await asyncio.sleep(0.002)


async def test_what_is_there_is_delivered_together(stage: Stage) -> None:
    """A backlog of several devices comes in full batches, each device's events in order, at any concurrency."""
    handler = Recorder()
    events = await stage.commit([an_event(number, f"d{number % 3}") for number in range(60)])
    async with running(stage.dispatcher(handler, batch={"events": 20, "wait": LONG}, concurrency=8)):
        await settled(stage, 60)

    assert [len(batch) for batch in handler.batches] == [20, 20, 20]
    for device in ("d0", "d1", "d2"):
        assert handler.of(device) == [event.position for event in events if event.device == device]


async def test_a_batch_waits_for_more_until_it_is_full(stage: Stage) -> None:
    """What comes later joins it, of other devices and of one that is in it already."""
    handler = Recorder()
    async with running(stage.dispatcher(handler, batch={"events": 4, "wait": LONG})):
        for number, device in enumerate("abba"):
            assert not handler.tried
            await stage.commit([an_event(number, device)])
        await settled(stage, 4)

    assert [sorted(batch) for batch in handler.batches] == [[1, 2, 3, 4]]
    assert (handler.of("a"), handler.of("b")) == ([1, 4], [2, 3])


async def test_a_batch_that_does_not_fill_is_delivered_after_its_wait(stage: Stage) -> None:
    """A single event does not wait for ever."""
    handler = Recorder()
    await stage.commit([an_event(1)])
    async with running(stage.dispatcher(handler, batch={"events": 100, "wait": "20ms"})):
        await settled(stage, 1)

    assert handler.batches == [[1]]


async def test_a_batch_does_not_wait_where_nothing_more_is_read(stage: Stage) -> None:
    """A batch that is larger than what is read ahead is delivered as soon as that is in hand."""
    handler = Recorder()
    await stage.commit([an_event(number, f"d{number % 5}") for number in range(4000)])
    async with running(stage.dispatcher(handler, batch={"events": 1000, "wait": LONG}, order="none")):
        await until(lambda: len(handler.delivered) >= 2000)


@pytest.mark.parametrize("order", ["device", "none"])
@pytest.mark.parametrize("error", [ValueError("bad"), DeadLetter("bad")])
async def test_a_bad_event_is_separated_from_its_batch(stage: Stage, error: Exception, order: str) -> None:
    """The batch fails together, then its events are tried alone: one is a dead letter, the others are delivered."""

    def behave(event: Event) -> None:
        if event.position == 3:
            raise error

    handler = Recorder(behave)
    await stage.commit([an_event(number, f"d{number % 2}") for number in range(10)])
    settings: dict[str, Any] = {
        "batch": {"events": 10, "wait": "1ms"},
        "retry": AT_ONCE | {"attempts": 1},
        "order": order,
    }
    async with running(stage.dispatcher(handler, **settings)):
        await settled(stage, 10, dead=1)

    assert len(handler.batches[0]) == 10
    assert [batch for batch in handler.batches[1:] if 3 in batch] == [[3]]
    assert set(handler.positions) == {1, 2, 4, 5, 6, 7, 8, 9, 10}
    if order == "device":
        assert list(dict.fromkeys(handler.of("d1"))) == [2, 4, 6, 8, 10]


@pytest.mark.parametrize("seed", range(4))
async def test_order_and_at_least_once_hold_in_batches(stage: Stage, seed: int) -> None:
    """With a third of the events failing at each call, every event is delivered, each device's first time in order."""
    random = Random(seed)

    async def behave(_event: Event) -> None:
        await asyncio.sleep(0)
        if random.random() < 0.1:
            raise ValueError("flaky")

    handler = Recorder(behave)
    settings: dict[str, Any] = {"batch": {"events": 7, "wait": "2ms"}, "retry": AT_ONCE, "concurrency": 4}
    async with running(stage.dispatcher(handler, **settings)):
        events: list[Event] = []
        for start in range(0, 150, 5):
            events += await stage.commit(
                [an_event(start + number, random.choice(["a", "b", "c", None])) for number in range(5)]
            )
        await settled(stage, 150)

    assert set(handler.positions) == set(range(1, 151))
    for device in "abc":
        first = list(dict.fromkeys(handler.of(device)))
        assert first == [event.position for event in events if event.device == device]


async def test_a_stop_does_not_wait_for_a_batch_to_fill(stage: Stage) -> None:
    """What was gathered and not delivered comes again at the next start."""
    handler, following = Recorder(), Recorder()
    async with running(stage.dispatcher(handler, batch={"events": 100, "wait": LONG})):
        await stage.held_by(handler)
        await stage.commit([an_event(1)])
    assert not handler.tried

    async with running(stage.dispatcher(following, batch={"events": 100, "wait": "1ms"})):
        await settled(stage, 1)
    assert following.positions == [1]


async def test_a_batch_that_never_returns_is_left_behind_whole(stage: Stage) -> None:
    """Its events fail once each, its lanes are free again, and what comes next of other devices is delivered."""
    release = asyncio.Event()

    async def clings(events: Sequence[Event]) -> None:
        taken.append([event.position or 0 for event in events])
        while len(events) > 1 and not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    taken: list[list[int]] = []
    handler = AsyncHandler(clings, in_batches=True)
    await stage.commit([an_event(1, "a"), an_event(2, "b")])
    settings: dict[str, Any] = {"type": "python", "call": "rules:on_events", "timeout": "20ms", "retry": AT_ONCE}
    async with running(stage.dispatcher(handler, batch={"events": 2, "wait": "1ms"}, concurrency=2, **settings)):
        await settled(stage, 2)
        release.set()

    assert taken[0] == [1, 2]
    assert sorted(taken[1:]) == [[1], [2]]


async def test_a_python_function_gets_the_list() -> None:
    """With a batch it is called once with all events, async or not; without, once for each."""
    seen: list[object] = []

    async def on_events(events: object) -> None:
        seen.append(events)

    one, two = an_event(1), an_event(2)
    plain = ThreadHandler(seen.append, "h", in_batches=True)
    await AsyncHandler(on_events, in_batches=True).deliver([one, two])
    await plain.deliver([one, two])
    await plain.close()
    await AsyncHandler(on_events).deliver([one, two])

    assert seen == [[one, two], [one, two], one, two]
