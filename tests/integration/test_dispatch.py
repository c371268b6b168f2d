"""From a real store to handlers: in order, at least once, through failures, crashes, and a store that goes away."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any, Concatenate, ParamSpec, TypeVar

import pytest
from sqlalchemy import Connection, insert, select, update

from app.dispatcher import DispatchLimits
from app.handlers.python import ThreadHandler
from ingest.deliveries import HandlerLag
from ingest.errors import DeadLetter, StoreUnavailable
from ingest.event import Event
from storage import deliveries as rows
from storage.cursors import SqlCursors
from storage.engine import Database, open_database
from storage.tables import cursors, deliveries
from tests.support.dispatching import HURRY, Clock, Recorder, Stage, an_event, running, staged, until
from tests.support.postgres import fresh_database

P = ParamSpec("P")
T = TypeVar("T")

AT_ONCE = {"base": "1ms", "cap": "5ms"}
NARROW = DispatchLimits(
    window_events=24, read_events=4, save_seconds=0.01, save_events=8, round_seconds=0.01, retry_events=8
)


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


def real_time() -> datetime:
    """The time."""
    return datetime.now(UTC)


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    """An empty store on SQLite, by the real time."""
    async with staged(open_database(f"sqlite:///{tmp_path}/test.db"), real_time) as stage:
        yield stage


@pytest.fixture(params=["sqlite", "postgresql"])
async def either(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stage]:
    """An empty store on each database."""
    url = f"sqlite:///{tmp_path}/test.db" if request.param == "sqlite" else fresh_database()
    async with staged(open_database(url), real_time) as stage:
        yield stage


async def lag(stage: Stage, position: int, waiting: int) -> HandlerLag:
    """Wait until the handler passed `position` and so many rows wait; how far it is then."""
    async with asyncio.timeout(20):
        while True:
            found = await stage.database.read(rows.lag, "h")
            if found is not None and found.position >= position and found.waiting == waiting:
                return found
            await asyncio.sleep(0.002)


async def passed(stage: Stage, position: int) -> HandlerLag:
    """Wait until the handler passed `position` and has nothing waiting."""
    return await lag(stage, position, 0)


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
        assert await SqlCursors(stage.database).redrive("h") == 2
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
