"""Coverage in a database that is put back to an older copy under it: what it lost is begun anew, with a gap."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ingest.endpoint_coverage import EndpointCoverage, EndpointCoverageRules
from ingest.errors import IntervalLost
from ingest.event import Cause, Origin
from ingest.sources.sse.coverage_tracker import CoverageTracker
from ingest.sources.sse.recorder import Recorder
from ingest.times import elapsed
from storage.coverage import SqlCoverage
from storage.engine import Database
from tests.support.put_back import put_back, take_copy
from tests.support.server import PATIENCE_SECONDS
from tests.support.stored import rows, run

FLEET = Origin("tracker", "fleet", "sse")
OTHER = Origin("tracker", "other", "sse")
INTERVALS = "SELECT source, since, until, ended FROM coverage ORDER BY since, id"
GAPS = "SELECT since, until, cause FROM gaps WHERE source = 'fleet' ORDER BY since, id"


async def restore(database: Database) -> None:
    """Put the copy back, and what gives ids with it."""
    await put_back(database)
    if database.dialect == "postgresql":
        await run(
            database,
            "SELECT setval(pg_get_serial_sequence('coverage', 'id'), "
            "(SELECT coalesce(max(id), 0) + 1 FROM coverage), false)",
        )


async def intervals(database: Database, source: str = "fleet") -> list[tuple[Any, ...]]:
    """Since, until and whether it has ended, of each."""
    return [tuple(rest) for whose, *rest in await rows(database, INTERVALS) if whose == source]


async def until_written(database: Database, *ended: bool) -> None:
    """Return when there are these intervals, the last one with a length."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            found = await intervals(database)
            if [row[2] for row in found] == list(ended) and found[-1][0] < found[-1][1]:
                return
            await asyncio.sleep(0.01)


def prove(listening: CoverageTracker, ago: float) -> None:
    """A look so long ago, and a byte after it."""
    listening.sample(elapsed() - ago, 0, latency=0.0)
    listening.confirm(1)


@pytest.mark.parametrize("call", ["extend", "end"])
async def test_an_interval_that_is_gone_is_lost(call: str, database: Database) -> None:
    """Whoever writes of it is told to begin another, which works."""
    coverage = SqlCoverage(database)
    await take_copy(database)
    gone = (await coverage.open(FLEET, 0, ago=100)).interval
    await restore(database)

    with pytest.raises(IntervalLost):
        await (coverage.extend(gone) if call == "extend" else coverage.end(gone, Cause.IDLE))

    again = (await coverage.open(FLEET, 0, ago=10)).interval
    await coverage.extend(again)
    assert again != gone
    assert len(await intervals(database)) == 1


@pytest.mark.parametrize("call", ["extend", "end"])
@pytest.mark.parametrize("whose", [OTHER, FLEET])
async def test_an_id_that_another_interval_has_since_is_lost_too(
    call: str, whose: Origin, database: Database, another: Database
) -> None:
    """Ids are given again after it: nobody moves the end of an interval that is not its own, of whatever process."""
    coverage, elsewhere = SqlCoverage(database), SqlCoverage(another)
    await take_copy(database)
    gone = (await coverage.open(FLEET, 0, ago=100)).interval
    await restore(database)
    await elsewhere.open(whose, 0, ago=50)
    same_process = (await coverage.open(OTHER, 1, ago=40)).interval
    before = await rows(database, INTERVALS)

    with pytest.raises(IntervalLost):
        await (coverage.extend(gone) if call == "extend" else coverage.end(gone, Cause.IDLE))

    assert await rows(database, INTERVALS) == before
    await coverage.extend(same_process, ago=30)
    assert await rows(database, INTERVALS) != before


async def test_the_time_whose_events_are_gone_is_a_gap(database: Database) -> None:
    """An interval that the copy holds, but shorter, covers no more than there; nor does one that had ended since."""
    coverage = SqlCoverage(database)
    ended = (await coverage.open(FLEET, 0, ago=100)).interval
    living = (await coverage.open(FLEET, 1, ago=100)).interval
    await coverage.extend(ended, ago=80)
    await coverage.extend(living, ago=70)
    await take_copy(database)
    copied = (await intervals(database))[1][1]
    await coverage.extend(living, ago=60)
    await coverage.end(ended, Cause.CLOSED, ago=60)
    await restore(database)

    with pytest.raises(IntervalLost):
        await coverage.extend(living, ago=50)
    await coverage.open(FLEET, 1, ago=50)

    *left, new = await intervals(database)
    assert [row[2] for row in left] == [True, True]
    assert await rows(database, GAPS) == [(copied, new[0], "down")]


async def test_a_stream_goes_on_with_another_interval(database: Database) -> None:
    """What is proven after it is covered; what was before, and ended after it, is no reason to fail for ever."""
    await take_copy(database)
    recorder = Recorder(FLEET, SqlCoverage(database), 0.02, elapsed)
    recording = asyncio.create_task(recorder.run())
    listening = CoverageTracker(1, elapsed() - 100)
    recorder.add(listening)
    try:
        prove(listening, ago=50)
        await until_written(database, False)
        await restore(database)
        prove(listening, ago=40)
        listening.over(Cause.IDLE)
        recorder.wake()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await recorder.empty()
    finally:
        recording.cancel()
        await asyncio.gather(recording, return_exceptions=True)

    (interval,) = await intervals(database)
    assert interval[2]
    assert await rows(database, GAPS) == [(interval[1], None, "idle")]


async def test_an_endpoint_goes_on_with_another_interval(database: Database) -> None:
    """Its record is begun anew and ended by the stop, whichever of the two meets the copy."""
    await take_copy(database)
    attendance = EndpointCoverage(SqlCoverage(database), FLEET, EndpointCoverageRules(extend=0.01))
    attending = asyncio.create_task(attendance.run())
    try:
        await until_written(database, False)
        await restore(database)
        await until_written(database, False)
    finally:
        attending.cancel()
        await asyncio.gather(attending, return_exceptions=True)
    await restore(database)
    await attendance.stop()

    (interval,) = await intervals(database)
    assert interval[2]
    assert await rows(database, GAPS) == [(interval[1], None, "stopped")]
