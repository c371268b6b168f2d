"""A store with events in it, and handlers that remember: what tests of cursors and dispatcher work with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from prometheus_client import CollectorRegistry
from pydantic import TypeAdapter
from sqlalchemy import Connection, func, select

from app.dispatcher import Dispatcher, DispatchLimits
from app.handlers import AnyHandlerSettings
from ingest.deliveries import HandlerLag
from ingest.event import Event
from ingest.identity import event_id
from ingest.metrics import Metrics
from ingest.protocols import Handler, Leases
from ingest.settings.handlers import HandlerSettings
from ingest.submission import weight
from ingest.times import instant_of
from storage import deliveries as rows
from storage.cursors import SqlCursors
from storage.engine import Database
from storage.feed import SqlFeed
from storage.migrate import migrate
from storage.rewinds import Rewinds
from storage.store import SqlStore
from storage.tables import cursors, deliveries
from tests.support.server import PATIENCE_SECONDS

NOON = datetime(2026, 7, 28, 12, tzinfo=UTC)
SETTINGS: TypeAdapter[HandlerSettings] = TypeAdapter(AnyHandlerSettings)
HURRY = DispatchLimits(save_seconds=0.01, round_seconds=0.01, drain_seconds=5, look_seconds=0.02)
NARROW = DispatchLimits(
    window_events=24, read_events=4, save_seconds=0.01, save_events=8, round_seconds=0.01, retry_events=8
)
AT_ONCE = {"base": "1ms", "cap": "5ms"}


def an_event(number: int, device: str | None = "d1", name: str = "temperature", product: str = "tracker") -> Event:
    """The `number`th event, a second after the one before."""
    at = NOON + timedelta(seconds=number)
    return Event(
        id=event_id(product, device, name, instant_of(at), b"%d" % number),
        product=product,
        device=device,
        name=name,
        data=b"%d" % number,
        content_type="text/plain",
        published_at=at,
        received_at=at,
        source="fleet",
        mode="webhook",
        attributes={},
    )


class Clock:
    """A clock that a test sets forward."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        """The time."""
        return self.now

    def forward(self, seconds: float) -> None:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)


class Recorder:
    """A handler that remembers what it was given (`tried`) and what it took (`delivered`), by position."""

    def __init__(self, behave: Callable[[Event], Awaitable[None] | None] = lambda _event: None) -> None:
        self._behave = behave
        self.tried: list[int] = []
        self.batches: list[list[int]] = []
        self.delivered: list[tuple[str | None, int]] = []
        self.closed = False

    async def deliver(self, events: Sequence[Event]) -> None:
        """Do as the test says with each of a batch, and remember."""
        self.batches.append([event.position or 0 for event in events])
        for event in events:
            await self.call(event)

    async def call(self, event: Event) -> None:
        """Do as the test says, and remember."""
        self.tried.append(event.position or 0)
        result = self._behave(event)
        if result is not None:
            await result
        self.delivered.append((event.device, event.position or 0))

    async def close(self) -> None:
        """Remember that too."""
        self.closed = True

    @property
    def positions(self) -> list[int]:
        """What it took, in that order."""
        return [position for _, position in self.delivered]

    def of(self, device: str | None) -> list[int]:
        """What it took of a device, in that order."""
        return [position for whose, position in self.delivered if whose == device]


class Stage:
    """A migrated database with a store, its tail, and whatever dispatchers a test starts on it."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self.database = database
        self.clock = clock
        self.metrics = Metrics(CollectorRegistry())
        self.rewinds = Rewinds(self.metrics.store_rewinds.inc)
        self.feed = SqlFeed(database, self.rewinds)
        self.cursors = SqlCursors(database, self.rewinds)
        self._store = SqlStore(database, clock, self.rewinds)

    async def commit(self, events: Sequence[Event]) -> list[Event]:
        """Commit events and tell the tail; they come back with their positions."""
        committed = await self._store.commit(events)
        self.feed.publish(committed, sum(map(weight, events)))
        return list(committed.events())

    def dispatcher(
        self,
        handler: Handler,
        *,
        pace: DispatchLimits = HURRY,
        begin: str = "beginning",
        leases: Leases | None = None,
        **settings: Any,
    ) -> Dispatcher:
        """A dispatcher of another process, so to say: it has a connection to cursors of its own.

        Without a circuit, unless the test wants one: what fails is tried again.
        """
        values = {"type": "log", "from": begin, "circuit": {"failures": 0}} | settings
        return Dispatcher(
            {"h": (handler, SETTINGS.validate_python(values))},
            self.feed,
            SqlCursors(self.database, self.rewinds, leases),
            self.metrics,
            holder=_process(handler),
            clock=self.clock,
            random=Random(7),
            limits=pace,
        )

    async def held_by(self, handler: Handler) -> None:
        """Wait until the dispatcher of this handler has its cursor."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await self.database.read(_holder) != _process(handler):  # noqa: ASYNC110 - a row has no event
                await asyncio.sleep(0.002)

    def metric(self, name: str, **labels: str) -> float:
        """A sample's value."""
        return self.metrics.registry.get_sample_value(name, {"handler": "h"} | labels) or 0.0


def _process(handler: Handler) -> str:
    """Return the name of the process that a handler's dispatcher stands for."""
    return f"process-{id(handler)}"


def _holder(connection: Connection) -> str | None:
    """Return which process has the cursor of `h`."""
    return connection.execute(select(cursors.c.holder).where(cursors.c.handler == "h")).scalar_one_or_none()


@asynccontextmanager
async def staged(database: Database, clock: Callable[[], datetime]) -> AsyncIterator[Stage]:
    """A Stage on an empty database, which is closed afterwards."""
    await migrate(database)
    try:
        yield Stage(database, clock)
    finally:
        await database.close()


@asynccontextmanager
async def running(dispatcher: Dispatcher) -> AsyncIterator[asyncio.Task[None]]:
    """A dispatcher at work inside the block, stopped in order behind it."""
    task = asyncio.create_task(dispatcher.run())
    try:
        yield task
    finally:
        dispatcher.stop()
        await asyncio.wait([task], timeout=20)
        assert task.done(), "the dispatcher does not stop"
    if not task.cancelled():
        await task


async def until(condition: Callable[[], bool], what: str = "") -> None:
    """Wait for a condition."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not condition():  # noqa: ASYNC110 - what is waited for has no event of its own
                await asyncio.sleep(0.002)
    except TimeoutError:
        raise AssertionError(f"waited in vain {what}") from None


async def lag(stage: Stage, position: int, waiting: int) -> HandlerLag:
    """Wait until the handler passed `position` and so many rows wait; how far it is then."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            found = await stage.database.read(rows.lag, "h")
            if found is not None and found.position >= position and found.waiting == waiting:
                return found
            await asyncio.sleep(0.002)


async def balanced(stage: Stage) -> HandlerLag:
    """How far the handler is. All that it passed has become something, and each position one thing."""
    found, rows_now = await stage.database.read(_lag_and_rows)
    became = found.passed.unmatched + found.passed.delivered + found.passed.deleted + found.passed.skipped + rows_now
    assert found.position - found.passed.first == became, found
    return found


def _lag_and_rows(connection: Connection) -> tuple[HandlerLag, int]:
    found = rows.lag(connection, "h")
    assert found is not None
    count = select(func.count()).select_from(deliveries).where(deliveries.c.handler == "h")
    return found, connection.execute(count).scalar_one()


async def passed(stage: Stage, position: int) -> HandlerLag:
    """Wait until the handler passed `position` and has nothing waiting."""
    return await lag(stage, position, 0)


def real_time() -> datetime:
    """The time."""
    return datetime.now(UTC)
