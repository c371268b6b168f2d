"""A webhook's record of listening, in a process that is stopped, killed or suspended; on a real store, with a clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from ingest.endpoint_coverage import EndpointCoverage, EndpointCoverageRules
from ingest.event import Origin
from storage.coverage import SqlCoverage
from storage.engine import Database
from tests.support.gated_database import GatedDatabase
from tests.support.server import PATIENCE_SECONDS
from tests.support.stored import rows

FLEET = Origin("tracker", "fleet", "webhook")
QUICK = EndpointCoverageRules(extend=0.01)
INTERVALS = "SELECT since, until FROM coverage ORDER BY id"
GAPS = "SELECT since, until, cause FROM gaps ORDER BY id"


class Clocks:
    """A clock which goes when the test says so."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def attendance(self, database: Database) -> EndpointCoverage:
        """Of a new process."""
        return EndpointCoverage(SqlCoverage(database), FLEET, QUICK, lambda: self.seconds)


@asynccontextmanager
async def running(attends: EndpointCoverage) -> AsyncIterator[None]:
    """It runs inside the block; what comes after the block is as after kill -9."""
    task = asyncio.create_task(attends.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], Awaitable[object]]) -> None:
    """Return when it holds."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await condition():  # noqa: ASYNC110 - a table
            await asyncio.sleep(0.005)


async def until_extended(database: Database, number: int = 1) -> None:
    """Return when this interval, from 1, has a length."""

    async def extended() -> bool:
        found = await rows(database, INTERVALS)
        return len(found) >= number and found[number - 1][1] > found[number - 1][0]

    await until(extended)


async def test_a_kill_is_down_and_a_stop_is_stopped(database: Database) -> None:
    """Whoever starts next ends the gap; only the kill has to be inferred."""
    clocks = Clocks()
    async with running(clocks.attendance(database)):
        await until_extended(database)
    stopping = clocks.attendance(database)
    async with running(stopping):
        await until_extended(database, 2)
        await stopping.stop()
    async with running(clocks.attendance(database)):
        await until_extended(database, 3)

    one, two, three = await rows(database, INTERVALS)
    assert await rows(database, GAPS) == [(one[1], two[0], "down"), (two[1], three[0], "stopped")]


async def test_a_suspended_process_did_not_listen(database: Database) -> None:
    """Time that went by between two looks is a gap, whether this process was stopped or the whole machine slept."""
    clocks = Clocks()
    async with running(clocks.attendance(database)):
        await until_extended(database)
        clocks.seconds += 60
        await until_extended(database, 2)

    one, two = await rows(database, INTERVALS)
    assert await rows(database, GAPS) == [(one[1], two[0], "down")]


@pytest.mark.parametrize("has_begun", [False, True])
async def test_a_process_that_is_suspended_while_it_writes_did_not_listen(has_begun: bool, database: Database) -> None:
    """Whether it is the beginning that is written meanwhile, or an extension."""
    clocks, gated = Clocks(), GatedDatabase(database)

    async def writing() -> bool:
        return gated.writing > 0

    async with running(clocks.attendance(gated)):
        if has_begun:
            await until_extended(database)
        gated.close_gate()
        await until(writing)
        clocks.seconds += 60
        gated.open_gate()
        await until_extended(database, 2)

    one, two = await rows(database, INTERVALS)
    assert await rows(database, GAPS) == [(one[1], two[0], "down")]


async def test_a_suspended_process_that_stops_at_once_did_not_listen_either(database: Database) -> None:
    """Where the stop comes before the next look, the interval still ends where it was extended last."""
    clocks = Clocks()
    stopping = clocks.attendance(database)
    async with running(stopping):
        await until_extended(database)
    extended = await rows(database, INTERVALS)

    clocks.seconds += 60
    await stopping.stop()

    assert await rows(database, INTERVALS) == extended
    assert await rows(database, GAPS) == [(extended[0][1], None, "stopped")]


async def until_refused(gated: GatedDatabase) -> None:
    """Return when the database, which is away, was asked twice more."""
    wanted = gated.refused + 2

    async def refused() -> bool:
        return gated.refused >= wanted

    await until(refused)


async def test_a_store_that_is_away_interrupts_nothing(database: Database) -> None:
    """Senders are told 503 meanwhile and send again: the endpoint listened, and the record is made up for."""
    gated = GatedDatabase(database)
    clocks = Clocks()
    gated.away = True
    async with running(clocks.attendance(gated)):
        await until_refused(gated)
        gated.away = False
        await until_extended(database)
        gated.away = True
        await until_refused(gated)
        gated.away = False
        before = (await rows(database, INTERVALS))[0][1]

        async def extended_on() -> bool:
            return bool((await rows(database, INTERVALS))[0][1] > before)

        await until(extended_on)

    assert len(await rows(database, INTERVALS)) == 1
    assert await rows(database, GAPS) == []
