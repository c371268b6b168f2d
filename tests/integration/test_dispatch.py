"""From a real store to handlers: in order, at least once, through failures, crashes, and a store that goes away."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from random import Random
from typing import Any, Concatenate, ParamSpec, TypeVar

import pytest
from sqlalchemy import Connection, insert, select, update

from app.handlers.python import ThreadHandler
from ingest.errors import StoreUnavailable
from ingest.event import Event
from storage.engine import Database, open_database
from storage.tables import cursors, deliveries
from tests.support.dispatching import (
    AT_ONCE,
    HURRY,
    NARROW,
    Recorder,
    Stage,
    an_event,
    passed,
    real_time,
    running,
    staged,
    until,
)
from tests.support.postgres import fresh_database

P = ParamSpec("P")
T = TypeVar("T")


class Interrupted:
    """A database whose way to it can be cut."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.away = False
        self.refused = 0

    @property
    def dialect(self) -> str:
        """See Database."""
        return self._database.dialect

    async def write(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See Database."""
        self._refuse()
        return await self._database.write(work, *args, **kwargs)

    async def read(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See Database."""
        self._refuse()
        return await self._database.read(work, *args, **kwargs)

    async def alter(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See Database."""
        return await self._database.alter(work, *args, **kwargs)

    async def close(self) -> None:
        """See Database."""
        await self._database.close()

    def _refuse(self) -> None:
        if self.away:
            self.refused += 1
            raise StoreUnavailable("cut")


@pytest.fixture(params=["sqlite", "postgresql"])
async def either(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stage]:
    """An empty store on each database."""
    url = f"sqlite:///{tmp_path}/test.db" if request.param == "sqlite" else fresh_database()
    async with staged(open_database(url), real_time) as stage:
        yield stage


def flaky(random: Random, share: float) -> Recorder:
    """A handler that fails for a share of its calls, and is away from the loop for a while in others."""

    async def behave(_event: Event) -> None:
        for _ in range(random.randrange(4)):
            await asyncio.sleep(0)
        if random.random() < share:
            raise ValueError("flaky")

    return Recorder(behave)


def fleet(random: Random, count: int) -> list[Event]:
    """Events of six devices and of none, in any order."""
    return [an_event(number, random.choice(["a", "b", "c", "d", "e", "f", None])) for number in range(count)]


@pytest.mark.parametrize("seed", range(6))
async def test_a_device_s_events_are_delivered_in_order_whatever_fails(stage: Stage, seed: int) -> None:
    """With a third of all calls failing, each event is delivered once, and each device's in order of commit."""
    random = Random(seed)
    handler = flaky(random, 0.33)
    pace = NARROW if seed % 2 else HURRY
    async with running(stage.dispatcher(handler, pace=pace, retry=AT_ONCE, concurrency=4)):
        events: list[Event] = []
        all_events = fleet(random, 120)
        for start in range(0, 120, 4):
            events += await stage.commit(all_events[start : start + 4])
        await passed(stage, 120)

    assert sorted(handler.positions) == list(range(1, 121))
    for device in "abcdef":
        assert handler.of(device) == [event.position for event in events if event.device == device]
    assert stage.metric("headrace_handler_deliveries_total", outcome="delivered") == 120
    assert stage.metric("headrace_handler_deliveries_total", outcome="retried") == len(handler.tried) - 120


@pytest.mark.parametrize("seed", range(3))
async def test_a_crash_repeats_deliveries_and_loses_none(either: Stage, seed: int) -> None:
    """Dropped again and again in the middle, what begins anew delivers the rest; first deliveries stay in order."""
    random = Random(seed)
    events = await either.commit(fleet(random, 120))
    handler = flaky(random, 0.2)
    for crash in range(1, 6):
        dispatcher = either.dispatcher(handler, pace=NARROW, retry=AT_ONCE, concurrency=4)
        task = asyncio.create_task(dispatcher.run())
        await until(lambda goal=crash * 18: len(handler.delivered) >= goal)  # type: ignore[misc]
        task.cancel()
        await asyncio.wait([task])
        await either.database.write(
            lambda connection: connection.execute(update(cursors).values(expires_at=1)) and None
        )
    async with running(either.dispatcher(handler, pace=NARROW, retry=AT_ONCE, concurrency=4)):
        await passed(either, 120)

    assert set(handler.positions) == set(range(1, 121))
    for device in "abcdef":
        first = list(dict.fromkeys(handler.of(device)))
        assert first == [event.position for event in events if event.device == device]


async def test_only_what_was_asked_for_is_delivered(stage: Stage) -> None:
    """Name prefixes and products choose; the cursor passes everything else."""
    await stage.commit(
        [
            an_event(1, name="alarm/fire"),
            an_event(2, name="temperature"),
            an_event(3, name="alarm/water", product="other"),
            an_event(4, name="spark/status"),
        ]
    )
    handler = Recorder()
    async with running(stage.dispatcher(handler, names=("alarm/", "spark/status"), products=("tracker",))):
        await passed(stage, 4)

    assert handler.positions == [1, 4]


async def test_a_new_handler_begins_with_what_comes_next(stage: Stage) -> None:
    """With from = "now" the past is not delivered; what comes is, without waiting for a poll."""
    await stage.commit([an_event(1)])
    handler = Recorder()
    async with running(stage.dispatcher(handler, begin="now")):
        await stage.held_by(handler)
        await stage.commit([an_event(2)])
        await until(lambda: bool(handler.delivered))

    assert handler.positions == [2]


@pytest.mark.parametrize("order", ["device", "none"])
async def test_one_slow_device_does_not_hold_up_the_others(stage: Stage, order: str) -> None:
    """While one delivery hangs, many times more events than are read ahead reach the handler, in order."""
    release = asyncio.Event()

    async def behave(event: Event) -> None:
        if event.device == "slow":
            await release.wait()

    handler = Recorder(behave)
    events = [an_event(number, "slow" if number % 100 == 0 else f"d{number % 7}") for number in range(600)]
    await stage.commit(events)
    async with running(stage.dispatcher(handler, pace=NARROW, concurrency=8, order=order)):
        await until(lambda: len(handler.delivered) == 594, "for the others")
        assert handler.of("slow") == []
        release.set()
        await passed(stage, 600)

    assert handler.of("slow") == [1, 101, 201, 301, 401, 501]
    assert sorted(handler.positions) == list(range(1, 601))


async def test_a_blocking_function_does_not_block_anything_else(stage: Stage) -> None:
    """Plain functions run in threads, as many at once as `concurrency` says, while the loop goes on."""
    together = threading.Barrier(4)  # opens only when four calls are in it at once
    seen: list[int] = []

    def on_event(event: Event) -> None:
        together.wait(20)
        seen.append(event.position or 0)

    await stage.commit([an_event(number, f"d{number}") for number in range(8)])
    async with running(stage.dispatcher(ThreadHandler(on_event, "h"), concurrency=4)):
        await passed(stage, 8)

    assert sorted(seen) == [1, 2, 3, 4, 5, 6, 7, 8]


async def test_a_store_that_is_away_loses_nothing(tmp_path: Path) -> None:
    """While the store is away it is asked at growing intervals; then the handler goes on in its place."""
    database = Interrupted(open_database(f"sqlite:///{tmp_path}/test.db"))
    async with staged(database, real_time) as stage:

        def behave(event: Event) -> None:
            if event.position == 50:
                database.away = True
            if event.position == 10 and handler.tried.count(10) == 1:
                raise ValueError

        handler = Recorder(behave)
        await stage.commit([an_event(number, f"d{number % 3}") for number in range(100)])
        began = time.monotonic()
        async with running(stage.dispatcher(handler, pace=NARROW, retry=AT_ONCE)):
            await until(lambda: database.refused >= 12)
            waited = time.monotonic() - began
            database.away = False
            await passed(stage, 100)

    assert waited > 0.3
    assert sorted(set(handler.positions)) == list(range(1, 101))


async def test_whoever_lost_its_cursor_stands_back(either: Stage) -> None:
    """After a takeover only the new holder delivers; the old one stands by, and takes over when that one stops."""
    first, second = Recorder(), Recorder()
    old, new = either.dispatcher(first), either.dispatcher(second)
    async with running(old):
        await either.commit([an_event(1)])
        await passed(either, 1)
        await either.database.write(
            lambda connection: connection.execute(update(cursors).values(expires_at=1)) and None
        )
        async with running(new):
            await either.held_by(second)
            await either.commit([an_event(2), an_event(3)])
            await until(lambda: {2, 3} <= {*second.positions})
        await either.commit([an_event(4)])
        await until(lambda: 4 in first.positions)
        assert 4 not in second.positions


async def test_rows_of_a_handler_that_is_gone_are_left_alone(stage: Stage) -> None:
    """Parked rows of a handler which is not configured any more stay as they are."""
    gone: dict[str, Any] = {"handler": "gone", "position": 1, "attempts": 1, "due_at": 1, "error": "boom"}
    await stage.commit([an_event(1)])
    await stage.database.write(lambda connection: connection.execute(insert(deliveries).values(gone)) and None)
    async with running(stage.dispatcher(Recorder())):
        await passed(stage, 1)

    found = await stage.database.read(lambda connection: connection.execute(select(deliveries)).mappings().one())
    assert {key: found[key] for key in gone} == gone


async def test_lag_is_shown(stage: Stage) -> None:
    """Behind a delivery that does not end, the gauges say how many events wait and how old the oldest is."""
    release = asyncio.Event()

    async def behave(_event: Event) -> None:
        await release.wait()

    await stage.commit([an_event(number) for number in range(3)])
    async with running(stage.dispatcher(Recorder(behave))):
        await until(lambda: stage.metric("headrace_handler_lag_events") == 3)
        assert stage.metric("headrace_handler_lag_seconds") > 0
        release.set()
        await until(lambda: stage.metric("headrace_handler_lag_events") == 0)
        assert stage.metric("headrace_handler_lag_seconds") == 0
        await until(lambda: stage.metric("headrace_handler_delivery_seconds_count") == 3)
