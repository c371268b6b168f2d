"""Events that their handler does not take: when they are tried again, and what goes on meanwhile."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import select

from ingest.errors import DeadLetter
from ingest.event import Event
from storage.dead_letters import give_back
from storage.engine import open_database
from storage.tables import deliveries
from tests.support.dispatching import (
    AT_ONCE,
    NARROW,
    Clock,
    Recorder,
    Stage,
    an_event,
    lag,
    passed,
    running,
    staged,
    until,
)


async def test_without_order_a_failure_holds_nothing_back(stage: Stage) -> None:
    """With order = "none" later events of the same device do not wait for one that fails."""
    failing = True

    def behave(event: Event) -> None:
        if event.position == 1 and failing:
            raise ValueError

    handler = Recorder(behave)
    await stage.commit([an_event(number) for number in range(5)])
    async with running(stage.dispatcher(handler, order="none", retry=AT_ONCE)):
        await until(lambda: len(handler.delivered) == 4 and handler.tried.count(1) > 3)
        failing = False
        await passed(stage, 5)

    assert sorted(handler.positions) == [1, 2, 3, 4, 5]
    assert handler.positions[-1] == 1


async def test_dead_letters_are_kept_and_can_be_given_back(stage: Stage) -> None:
    """After its attempts, or DeadLetter, an event is kept with its reason; redriven from outside it comes again."""
    broken = True

    def behave(event: Event) -> None:
        if broken and event.position == 1:
            raise DeadLetter("no such room")
        if broken and event.position == 2:
            raise KeyError("t")

    handler = Recorder(behave)
    await stage.commit([an_event(number) for number in range(4)])
    async with running(stage.dispatcher(handler, retry=AT_ONCE | {"attempts": 3})):
        assert (await passed(stage, 4)).dead == 2
        await until(lambda: stage.metric("headrace_handler_dead_letters") == 2)
        assert handler.positions == [3, 4]
        assert handler.tried == [1, 2, 2, 2, 3, 4]
        reasons = select(deliveries.c.error).order_by(deliveries.c.position)
        found = await stage.database.read(lambda connection: list(connection.execute(reasons).scalars()))
        assert found == ["no such room", "KeyError: 't'"]

        broken = False
        assert await stage.database.write(give_back, "h") == 2
        await until(lambda: len(handler.delivered) == 4)
        assert (await passed(stage, 4)).dead == 0

    assert stage.metric("headrace_handler_deliveries_total", outcome="dead") == 2
    assert stage.metric("headrace_handler_deliveries_total", outcome="retried") == 2


async def test_retries_wait_for_their_time(tmp_path: Path) -> None:
    """A failed event is not tried again before it is due, and given up once it is too old; its device goes on."""

    def behave(event: Event) -> None:
        if event.position == 1:
            raise ValueError

    clock, handler = Clock(), Recorder(behave)
    async with staged(open_database(f"sqlite:///{tmp_path}/test.db"), clock) as stage:
        await stage.commit([an_event(1), an_event(2), an_event(3, "other")])
        retry = {"base": "10m", "cap": "10m", "max_age": "1h"}
        async with running(stage.dispatcher(handler, retry=retry)):
            await until(lambda: handler.positions == [3])
            await lag(stage, 3, 2)
            assert handler.tried == [1, 3]

            clock.forward(600)
            await until(lambda: handler.tried == [1, 3, 1])
            assert handler.positions == [3]

            clock.forward(3600)
            assert (await passed(stage, 3)).dead == 1

    assert handler.positions == [3, 2]


async def test_a_clock_that_goes_back_holds_nothing_up(tmp_path: Path) -> None:
    """Two hours before its due time a parked event is tried at once, and its device goes on."""
    clock, failing = Clock(), True

    def behave(event: Event) -> None:
        if event.position == 1 and failing:
            raise ValueError

    handler = Recorder(behave)
    async with staged(open_database(f"sqlite:///{tmp_path}/test.db"), clock) as stage:
        await stage.commit([an_event(1), an_event(2)])
        async with running(stage.dispatcher(handler, retry={"base": "1m", "cap": "1m"})):
            await lag(stage, 2, 2)
            failing = False
            clock.forward(-7200)
            await passed(stage, 2)

    assert handler.positions == [1, 2]


async def test_a_failing_device_does_not_hold_up_the_others(stage: Stage) -> None:
    """A device whose events all fail fills its lane, not the handler; when it heals it is caught up in order."""
    failing = True

    def behave(event: Event) -> None:
        if event.device == "bad" and failing:
            raise ValueError

    handler = Recorder(behave)
    await stage.commit([an_event(number, "bad" if number % 2 else f"d{number % 6}") for number in range(600)])
    async with running(stage.dispatcher(handler, pace=NARROW, retry=AT_ONCE, concurrency=2)):
        await until(lambda: len(handler.delivered) == 300)
        failing = False
        await passed(stage, 600)

    assert handler.of("bad") == list(range(2, 601, 2))


async def test_what_always_fails_does_not_starve_the_rest(stage: Stage) -> None:
    """Where more events than are taken up at once always fail, a later one that would succeed gets its try."""
    mended = False

    def behave(event: Event) -> None:
        if event.name == "broken" or not mended:
            raise ValueError

    handler = Recorder(behave)
    await stage.commit([an_event(number, f"d{number}", name="broken") for number in range(60)])
    await stage.commit([an_event(number, f"d{number}") for number in range(60, 65)])
    async with running(stage.dispatcher(handler, pace=NARROW, retry={"base": "1ms", "cap": "1ms"})):
        await until(lambda: len(set(handler.tried)) == 65)
        mended = True
        await until(lambda: len(handler.delivered) == 5)

    assert sorted(handler.positions) == [61, 62, 63, 64, 65]


@pytest.mark.parametrize("order", ["device", "none"])
async def test_new_events_do_not_wait_behind_retries_that_hang(stage: Stage, order: str) -> None:
    """Parked events that all hang when they are tried again leave workers for what is new."""
    release = asyncio.Event()

    async def behave(event: Event) -> None:
        if (event.position or 0) <= 20:
            if handler.tried.count(event.position or 0) == 1:
                raise ValueError
            await release.wait()

    handler = Recorder(behave)
    await stage.commit([an_event(number, f"d{number}") for number in range(20)])
    async with running(stage.dispatcher(handler, retry=AT_ONCE, concurrency=4, order=order)):
        await until(lambda: len(handler.tried) == 22)
        await stage.commit([an_event(number, f"d{number}") for number in range(20, 40)])
        await until(lambda: len(handler.delivered) == 20)
        assert len(handler.tried) == 42
        release.set()
        await passed(stage, 40)

    assert sorted(handler.positions) == list(range(1, 41))


async def test_a_hanging_delivery_is_retried_after_its_timeout(stage: Stage) -> None:
    """A timeout counts as a failure like any other."""

    async def behave(_event: Event) -> None:
        if len(handler.tried) == 1:
            await asyncio.Event().wait()

    handler = Recorder(behave)
    await stage.commit([an_event(1)])
    async with running(stage.dispatcher(handler, timeout="20ms", retry=AT_ONCE)):
        await passed(stage, 1)

    assert handler.tried == [1, 1]
