"""Tallies by hour after a day, by day after a month, by year after a year: the same sums in few rows."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from sqlalchemy import Connection, delete, insert

from ingest.event import Cause, Origin
from storage.coverage import SqlCoverage
from storage.database import Database
from storage.engine import open_database
from storage.folding import Folding
from storage.gaps import SourceKey
from storage.intervals import Stretch
from storage.queries.sources import stored_sources
from storage.tables import batches, tallies
from storage.usual import _arrivals, _arrived
from tests.support.stored import rows, run

NOW = datetime(2026, 11, 30, 14, 35, 20, tzinfo=UTC)
MINUTE = int(NOW.timestamp()) // 60
DAY = 24 * 60
FLEET = SourceKey("fleet", "sse")

Row = tuple[str, int, str, int]  # source, minutes ago, outcome, count


async def tallied(database: Database, counted: Iterable[Row]) -> None:
    """Put tallies there, each of a minute."""
    values = [
        {"source": source, "mode": "sse", "minute": MINUTE - ago, "outcome": outcome, "count": count}
        for source, ago, outcome, count in counted
    ]

    def write(connection: Connection) -> None:
        connection.execute(delete(tallies))
        connection.execute(insert(tallies), values)

    await database.write(write)


async def sums(database: Database) -> list[tuple[object, ...]]:
    """All that was counted, by source and outcome, and when the last arrival was."""
    found = await database.read(stored_sources, {})
    return [(source.source, dict(source.counts), dict(source.duplicate_kinds), source.last_minute) for source in found]


async def arrivals(database: Database, from_ago: int, until_ago: int) -> float:
    """How many the fleet brought between two minutes ago."""
    stretch = Stretch((MINUTE - from_ago) * 60_000_000, (MINUTE - until_ago) * 60_000_000 - 1)
    return await database.read(lambda connection: _arrivals(_arrived(connection, FLEET, stretch), stretch))


def folding(database: Database, now: datetime = NOW) -> Folding:
    """What folds, at a time."""
    return Folding(database, lambda: now)


async def test_a_year_of_minutes_is_few_rows(database: Database) -> None:
    """Minutes of a day, hours of a month, days of a year and the years stay; hours and days count what they did."""
    ages = [*range(3 * DAY), *range(3 * DAY, 40 * DAY, 30), *range(40 * DAY, 800 * DAY, 6 * 60)]
    await tallied(database, [("fleet", ago, "stored", 1 + ago % 7) for ago in ages])
    whole_day = MINUTE // DAY * DAY - 50 * DAY
    before = await sums(database)
    of_day = await arrivals(database, MINUTE - whole_day, MINUTE - whole_day - DAY)
    last_hour = MINUTE // 60 * 60 - 30 * 60
    of_hour = await arrivals(database, MINUTE - last_hour, MINUTE - last_hour - 60)

    await folding(database).fold()

    assert await sums(database) == before
    widths = dict(await rows(database, "SELECT minutes, count(*) FROM tallies GROUP BY minutes"))
    assert widths[1] <= DAY + 60
    assert widths[60] <= 31 * 24 + 24
    assert widths[DAY] <= 366 + 365
    assert widths[365 * DAY] <= 2
    assert await arrivals(database, MINUTE - whole_day, MINUTE - whole_day - DAY) == pytest.approx(of_day)
    assert await arrivals(database, MINUTE - last_hour, MINUTE - last_hour - 60) == pytest.approx(of_hour)
    assert of_day > 0 < of_hour

    folded = await rows(database, "SELECT * FROM tallies ORDER BY source, mode, minute, outcome")
    await folding(database).fold()
    assert await rows(database, "SELECT * FROM tallies ORDER BY source, mode, minute, outcome") == folded


@pytest.mark.parametrize("seed", range(8))
async def test_folding_keeps_every_sum(database: Database, seed: int) -> None:
    """Whatever was counted, folded now and again as time passes: each sum is exact, and the last minute is known."""
    random = Random(seed)
    ages = [0, 1, 59, 60, 61, DAY - 1, DAY, DAY + 1, 31 * DAY, 32 * DAY, 366 * DAY, 1100 * DAY]
    counted = {
        (
            random.choice(["fleet", "other"]),
            max(0, random.choice(ages) + random.randrange(-90, 90)),
            random.choice(["stored", "expired", "redelivery", "rejected"]),
        ): random.randrange(1, 2**40)
        for _ in range(60)
    }
    await tallied(database, [(*key, count) for key, count in counted.items()])
    before = await sums(database)
    for hours in (0, 1, random.randrange(2, 48), 24 * 40, 24 * 800):
        await folding(database, NOW + timedelta(hours=hours)).fold()
        assert await sums(database) == before


async def test_what_is_counted_late_is_folded_too(database: Database) -> None:
    """A count that comes to an hour that was folded, as after a clock was set, is in its sum."""
    await tallied(database, [("fleet", 3 * DAY, "stored", 5), ("fleet", 0, "stored", 1)])
    await folding(database).fold()
    hour = (MINUTE - 3 * DAY) // 60 * 60
    for minute in (hour, hour + 7):
        await run(
            database,
            f"INSERT INTO tallies (source, mode, minute, outcome, count) VALUES ('fleet', 'sse', {minute}, 'stored', 2)"  # noqa: S608 - numbers
            " ON CONFLICT (source, mode, minute, outcome) DO UPDATE SET count = tallies.count + excluded.count",
        )
    await folding(database).fold()
    assert await rows(database, "SELECT minute, minutes, count FROM tallies ORDER BY minute LIMIT 1") == [(hour, 60, 9)]


async def test_processes_that_fold_together_count_once(database: Database, another: Database) -> None:
    """What one of them deleted the other does not add up."""
    await tallied(database, [("fleet", ago, "stored", 1) for ago in range(10 * DAY)])
    before = await sums(database)
    await asyncio.gather(folding(database).fold(), folding(another).fold())
    assert await sums(database) == before
    assert (await rows(database, "SELECT count(*) FROM tallies WHERE minutes = 1"))[0][0] <= DAY + 60


async def test_what_is_usual_is_known_of_folded_hours(database: Database) -> None:
    """A gap that is closed days later has cost as much as before the tallies were folded."""
    suspected = []
    for source, folds in (("fleet", False), ("other", True)):
        coverage, key = SqlCoverage(database), Origin("tracker", source, "sse")
        opened = await coverage.open(key, 0, ago=90 * 3600)
        await coverage.end(opened.interval, Cause.IDLE, ago=60 * 3600 + 1700)
        until = f"SELECT max(until) FROM coverage WHERE source = '{source}'"  # noqa: S608 - one of two
        now = (await rows(database, until))[0][0] // 60_000_000
        values = ", ".join(f"('{source}', 'sse', {now - ago}, 'stored', {1 + ago // 60})" for ago in range(1, 26 * 60))
        await run(database, f"INSERT INTO tallies (source, mode, minute, outcome, count) VALUES {values}")  # noqa: S608
        if folds:
            await run(database, f"INSERT INTO tallies VALUES ('{source}', 'sse', {now + 5 * DAY}, 'stored', 1, 1)")  # noqa: S608
            await Folding(database, lambda: datetime.now(UTC)).fold()
            assert await rows(database, "SELECT count(*) FROM tallies WHERE minutes = 60 AND source = 'other'") != [
                (0,)
            ]
        (ended,) = (await coverage.open(key, 0, ago=59 * 3600)).ended
        suspected.append(ended.suspected)
    assert suspected[1] == pytest.approx(suspected[0], rel=0.02)
    assert suspected[0] > 0


async def test_old_batches_are_forgotten(postgres_url: str) -> None:
    """The row of a process that committed nothing for a day goes; of one that did it stays. SQLite has none."""
    database = open_database(postgres_url)
    now = int(NOW.timestamp()) * 1_000_000
    old = [{"writer": f"old{number}", "batch": 1, "committed_at": number} for number in range(1200)]
    young = [{"writer": "young", "batch": 7, "committed_at": now - 3600 * 1_000_000}]
    await database.write(lambda connection: connection.execute(insert(batches), old + young) and None)
    await folding(database).fold()
    assert await rows(database, "SELECT writer FROM batches") == [("young",)]
    await database.close()
