"""What ingest.ports.Coverage promises: intervals of listening, by the database's clock."""

from __future__ import annotations

import time

import pytest

from ingest.errors import StoreUnavailable
from ingest.event import Mode, Origin
from storage.clock import database_now
from storage.coverage import SqlCoverage
from storage.engine import Database, open_database
from tests.support.postgres_proxy import proxied
from tests.support.stored import rows

FLEET = Origin("tracker", "fleet", Mode.WEBHOOK)
INTERVALS = "SELECT source, mode, stream, since, until FROM coverage ORDER BY id"


async def test_an_interval_begins_now(database: Database) -> None:
    """A stream that begins to listen has an interval from now to now."""
    before = await database.read(database_now)
    await SqlCoverage(database).open(FLEET, 1)
    after = await database.read(database_now)

    ((source, mode, stream, since, until),) = await rows(database, INTERVALS)
    assert (source, mode, stream) == ("fleet", "webhook", 1)
    assert before <= since == until <= after


async def test_listening_on_moves_the_end_only(database: Database) -> None:
    """Extending reaches until now and leaves the beginning, and other streams' intervals, alone."""
    coverage = SqlCoverage(database)
    first, second = await coverage.open(FLEET, 0), await coverage.open(FLEET, 1)
    begun = await rows(database, INTERVALS)
    now = begun[1][3]
    while now <= begun[1][3]:  # SQLite's clock has whole milliseconds
        now = await database.read(database_now)

    await coverage.extend(first)

    extended = await rows(database, INTERVALS)
    assert second > first
    assert extended[0][:4] == begun[0][:4]
    assert extended[0][4] >= now
    assert extended[1] == begun[1]


async def test_the_databases_clock_is_a_clock(database: Database) -> None:
    """The database's time is microseconds since 1970 and agrees with this machine's within a second."""
    assert abs(await database.read(database_now) - time.time() * 1e6) < 1e6


async def test_a_store_that_is_away_is_said_so(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Neither opening nor extending hides that nothing was recorded."""
    async with proxied(postgres_url, tmp_path_factory.mktemp("p")) as (proxy, through):
        database = open_database(through)
        coverage = SqlCoverage(database)
        interval = await coverage.open(FLEET, 0)
        for attempt in (coverage.open(FLEET, 1), coverage.extend(interval)):
            proxy.cut_before(b"COMMIT")
            with pytest.raises(StoreUnavailable):
                await attempt
        await coverage.extend(interval)
        await database.close()
