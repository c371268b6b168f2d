"""How long what a process did waits for another one: by the database's clock, with the periods of a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import Connection

from app.dispatcher import DispatchLimits
from ingest.leases import RETENTION, handler_lease, stream_lease
from storage.replicas import SqlLeases
from tests.support.dispatching import Clock, Recorder, Stage, an_event, staged
from tests.support.on_the_loop import OnTheLoop
from tests.support.virtual_time import in_virtual_time, virtual_loop

MOVED_SECONDS = 15.0  # after a death
HANDED_OVER_SECONDS = 4.0  # after a SIGTERM: a round, and a look of who stands by
LEASES = (handler_lease("h"), stream_lease("fleet", 1), RETENTION)
_UNIX_EPOCH = 2440587.5  # as a Julian day, by which SQLite tells the time


class Process:
    """A process on the store: its leases, and a handler that delivers while it has the cursor."""

    def __init__(self, stage: Stage) -> None:
        self.handler = Recorder()
        self.leases = SqlLeases(stage.database, f"process-{id(self)}", clock=virtual_loop().time)
        self.wanted = [self.leases.lease(name) for name in LEASES]
        self._dispatcher = stage.dispatcher(self.handler, pace=DispatchLimits(), leases=self.leases)
        self._tasks = [asyncio.create_task(self.leases.run()), asyncio.create_task(self._dispatcher.run())]

    async def die(self) -> None:
        """End as by SIGKILL: nothing is saved, given back, or said."""
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)

    async def stop(self) -> None:
        """Begin to end as by SIGTERM: until all requests are answered its row is renewed."""
        await self.leases.leave()
        self._dispatcher.stop()

    async def delivered(self, position: int) -> None:
        """Return when its handler has the event."""
        while position not in self.handler.positions:  # noqa: ASYNC110 - a handler has no event of its own
            await asyncio.sleep(0.01)


@asynccontextmanager
async def two_processes(folder: Path) -> AsyncIterator[tuple[Stage, Process, Process]]:
    """A process that delivers, and another one on the same store, whose clock is the loop's."""
    database = OnTheLoop(folder / "test.db")
    async with staged(database, Clock()) as stage:
        await database.write(_take_the_loops_clock)
        database.dialect = "postgresql"  # several processes share it: no cursor is taken by force
        one, other = Process(stage), Process(stage)
        await asyncio.sleep(10)  # all has found its place
        holds = [process for process in (one, other) if process.leases.lease(LEASES[0]).held]
        assert len(holds) == 1
        yield stage, *((one, other) if holds == [one] else (other, one))
        for process in (one, other):
            await process.die()


def _take_the_loops_clock(connection: Connection) -> None:
    driver, loop = connection.connection.driver_connection, asyncio.get_running_loop()
    assert driver is not None
    driver.create_function("julianday", 1, lambda _now: _UNIX_EPOCH + loop.time() / 86_400)
    driver.create_function("pg_advisory_xact_lock", 1, lambda _key: None)  # one connection: each waits for the other


async def within(seconds: float, *happening: Awaitable[object]) -> None:
    """Return when all of that has happened. Raises TimeoutError after so many seconds."""
    async with asyncio.timeout(seconds):
        await asyncio.gather(*happening)


@pytest.mark.parametrize("after_seconds", [0.0, 0.3, 0.6, 0.9])
@in_virtual_time
async def test_what_the_dead_did_another_does_within_15_s(after_seconds: float, tmp_path: Path) -> None:
    """Whenever between two rounds a process dies, its leases move and its handler goes on in time."""
    async with two_processes(tmp_path) as (stage, victim, other):
        await stage.commit([an_event(1)])
        await within(1, victim.delivered(1))
        await asyncio.sleep(after_seconds)

        await victim.die()
        await stage.commit([an_event(2)])

        await within(MOVED_SECONDS, *(lease.acquired() for lease in other.wanted), other.delivered(2))
        assert 2 not in victim.handler.tried


@pytest.mark.parametrize("after_seconds", [0.0, 0.3, 0.6, 0.9])
@in_virtual_time
async def test_what_a_process_did_that_stops_another_does_at_once(after_seconds: float, tmp_path: Path) -> None:
    """Who is told to stop gives its leases back: the other takes them in its next round, and nothing runs out."""
    async with two_processes(tmp_path) as (stage, victim, other):
        await stage.commit([an_event(1)])
        await within(1, victim.delivered(1))
        await asyncio.sleep(after_seconds)

        await victim.stop()
        await within(HANDED_OVER_SECONDS / 2, *(lease.acquired() for lease in other.wanted))
        await stage.commit([an_event(2)])

        await within(HANDED_OVER_SECONDS / 2, other.delivered(2))
