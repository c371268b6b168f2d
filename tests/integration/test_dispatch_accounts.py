"""What a handler's row tells of the events it passed, as the dispatcher writes it: nothing is forgotten, or twice."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import pytest
from sqlalchemy import delete, select

from ingest.errors import DeadLetter
from ingest.event import Event
from storage.runs import positions_of, read_runs
from storage.tables import cursors, deliveries, events
from tests.support.dispatching import (
    AT_ONCE,
    HURRY,
    NARROW,
    Recorder,
    Stage,
    an_event,
    balanced,
    lag,
    passed,
    running,
    until,
)
from tests.support.server import PATIENCE_SECONDS


async def crashed(task: asyncio.Task[None]) -> None:
    """A dispatcher that ends without saving anything."""
    task.cancel()
    await asyncio.wait([task])


async def saved_ahead(stage: Stage, count: int) -> None:
    """Wait until the cursor's row says that so many events were delivered beyond its position."""
    ahead = select(cursors.c.position, cursors.c.ahead)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            row = await stage.database.read(lambda connection: connection.execute(ahead).one_or_none())
            if row is not None and len(positions_of(read_runs(row.position, row.ahead))) == count:
                return
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("seed", range(4))
async def test_the_accounts_balance_whatever_happens(stage: Stage, seed: int) -> None:
    """Filters, failures, dead letters, holes and crashes: after each save every position has become one thing."""
    random = Random(seed)
    wanted = [an_event(number, random.choice("abc")) for number in range(150)]
    others = [an_event(number, random.choice("abc"), name="noise") for number in range(150, 300)]
    committed = await stage.commit(random.sample([*wanted, *others], 300))
    holes = [event.position for event in committed if random.random() < 0.2]
    await stage.database.write(lambda c: c.execute(delete(events).where(events.c.position.in_(holes))) and None)
    stage.feed = type(stage.feed)(stage.database, stage.rewinds)  # it remembers them

    def behave(event: Event) -> None:
        fate = random.random()
        if fate < 0.05:
            raise DeadLetter
        if fate < 0.3:
            raise ValueError("flaky")

    handler = Recorder(behave)
    settings: dict[str, Any] = {"names": ("temperature",), "retry": AT_ONCE, "concurrency": 4}
    last = max(event.position or 0 for event in committed if event.position not in holes)
    for goal in (20, 40, 60):
        dispatcher = stage.dispatcher(handler, pace=NARROW if seed % 2 else HURRY, **settings)
        task = asyncio.create_task(dispatcher.run())
        while len(handler.delivered) < goal:
            await balanced(stage) if handler.delivered else None
            await asyncio.sleep(0.002)
        await crashed(task)
        await balanced(stage)
    async with running(stage.dispatcher(handler, **settings)):
        await passed(stage, last)
    found = await balanced(stage)

    left = [event for event in committed if event.position not in holes]
    assert found.passed.unmatched == sum(event.name == "noise" for event in left)
    assert found.passed.skipped == sum(position < last for position in holes if position)
    assert found.passed.delivered + found.dead == sum(event.name != "noise" for event in left)


async def test_a_crash_repeats_what_was_in_flight_and_not_its_neighbours(stage: Stage) -> None:
    """1,500 events that were delivered behind a slow one are remembered, and also by the process after the next one."""
    entered = asyncio.Event()

    async def behave(event: Event) -> None:
        if event.device == "slow":
            entered.set()
            await asyncio.Event().wait()

    await stage.commit([an_event(0, "slow"), *(an_event(number, f"d{number % 50}") for number in range(1, 1501))])
    first, second, third = Recorder(behave), Recorder(behave), Recorder()
    task = asyncio.create_task(stage.dispatcher(first).run())
    await saved_ahead(stage, 1500)
    await crashed(task)
    assert (await balanced(stage)).position == 0

    entered.clear()
    task = asyncio.create_task(stage.dispatcher(second).run())
    await entered.wait()
    await stage.commit([an_event(number, f"d{number % 50}") for number in range(1501, 1521)])
    await saved_ahead(stage, 1520)
    await crashed(task)

    async with running(stage.dispatcher(third)):
        await passed(stage, 1521)
    assert sorted(second.tried) == [1, *range(1502, 1522)]
    assert third.tried == [1]
    assert (await balanced(stage)).passed.delivered == 1521


async def test_a_stop_remembers_all_that_was_delivered(stage: Stage) -> None:
    """Also what was delivered a moment before, behind an event that does not end in time."""
    hanging = asyncio.Event()

    async def behave(event: Event) -> None:
        if event.position == 1:
            hanging.set()
            await asyncio.Event().wait()
        await hanging.wait()

    first, second = Recorder(behave), Recorder()
    await stage.commit([an_event(number, f"d{number}") for number in range(9)])
    pace = type(HURRY)(drain_seconds=0.02)
    async with running(stage.dispatcher(first, pace=pace)):
        await until(lambda: len(first.delivered) == 8)
    async with running(stage.dispatcher(second)):
        await passed(stage, 9)

    assert second.tried == [1]


async def test_what_failed_is_kept_with_its_attempts_and_counted_by_cause(stage: Stage) -> None:
    """The row has the cause and each attempt; the metric has every cause from the start."""

    def behave(event: Event) -> None:
        if event.position == 1 and handler.tried.count(1) < 3:
            raise ValueError(f"attempt {handler.tried.count(1)}")
        if event.position == 1:
            raise DeadLetter("enough")

    handler = Recorder(behave)
    await stage.commit([an_event(1), an_event(2)])
    async with running(stage.dispatcher(handler, retry=AT_ONCE)):
        await lag(stage, 2, 0)
    kept = select(deliveries.c.cause, deliveries.c.error, deliveries.c.history)
    row = await stage.database.read(lambda connection: connection.execute(kept).one())

    assert (row.cause, row.error) == ("dead_letter", "enough")
    assert row.history.index("attempt 1") < row.history.index("attempt 2") < row.history.index("enough")
    assert stage.metric("headrace_handler_failures_total", cause="handler_error") == 2
    assert stage.metric("headrace_handler_failures_total", cause="dead_letter") == 1
    labels = {"handler": "h", "cause": "tls"}
    assert stage.metrics.registry.get_sample_value("headrace_handler_failures_total", labels) == 0
