"""What a gap may have cost: what usually comes at that time of the day on the days before; a quiet night little."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

import pytest
from sqlalchemy import Connection, insert

from ingest.event import Cause
from storage.engine import Database
from storage.gaps import SourceKey, add_gaps
from storage.intervals import Stretch
from storage.tables import coverage, gaps, tallies
from tests.support.stored import run

FLEET = SourceKey("fleet", "sse")
MINUTE = 60_000_000
HOUR, DAY = 60, 1440  # minutes
TODAY = int(datetime(2026, 7, 28, tzinfo=UTC).timestamp()) // 60  # its first minute
BY_DAY, BY_NIGHT = 60, 2  # events in a minute


def usually(minute: int) -> int:
    """How many come in a minute: many from 8 to 20 o'clock, few at night."""
    return BY_DAY if 8 * HOUR <= minute % DAY < 20 * HOUR else BY_NIGHT


def stretch(since: float, until: float) -> Stretch:
    """From so many minutes after the beginning of today to so many."""
    return Stretch(round((TODAY + since) * MINUTE), round((TODAY + until) * MINUTE))


async def history(database: Database, since: int, until: int, silent: Iterable[tuple[int, int]] = ()) -> None:
    """Listen from a minute of today up to another, but not in these stretches; by hour until a day ago, as folded."""
    silent = list(silent)
    heard = [minute for minute in range(since, until) if not any(first <= minute < last for first, last in silent)]
    counts: dict[tuple[int, int], int] = {}
    for minute in heard:
        key = (minute, 1) if minute >= until - DAY else (minute // HOUR * HOUR, HOUR)
        counts[key] = counts.get(key, 0) + usually(minute)

    def fill(connection: Connection) -> None:
        whose = {"source": FLEET.source, "mode": FLEET.mode}
        of_time = whose | {"stream": 0, "ended": True}
        edges = [since, *(edge for one in silent for edge in one), until]
        for first, last in zip(edges[::2], edges[1::2], strict=True):
            one = stretch(first, last)
            connection.execute(insert(coverage).values(**of_time, since=one.since, until=one.until))
        for first, last in silent:
            one = stretch(first, last)
            connection.execute(insert(gaps).values(**whose, since=one.since, until=one.until, cause="idle"))
        rows = [
            whose | {"minute": TODAY + minute, "minutes": minutes, "outcome": "stored", "count": count}
            for (minute, minutes), count in counts.items()
        ]
        connection.execute(insert(tallies), rows)

    await database.write(fill)


async def cost(database: Database, since: float, until: float) -> float:
    """What a gap of today may have cost, in minutes from its beginning."""

    def close(connection: Connection) -> float:
        (gap,) = add_gaps(connection, FLEET, [stretch(since, until)], Cause.IDLE)
        return gap.suspected

    return await database.write(close)


@pytest.mark.parametrize(
    ("since", "until", "expected"),
    [
        (2 * HOUR, 3 * HOUR, 60 * BY_NIGHT),
        (12 * HOUR, 12 * HOUR + 10, 10 * BY_DAY),
        (12 * HOUR + 0.25, 12 * HOUR + 0.5, 0.25 * BY_DAY),
        (7 * HOUR + 30, 8 * HOUR + 30, 30 * BY_NIGHT + 30 * BY_DAY),
        (10 * HOUR, 58 * HOUR, 2 * 12 * HOUR * (BY_DAY + BY_NIGHT)),
    ],
)
async def test_a_gap_costs_what_comes_at_that_time_of_the_day(
    database: Database, since: float, until: float, expected: float
) -> None:
    """At night the night's rate, by day the day's, hour by hour; two whole days as much as two days before."""
    await history(database, -8 * DAY, int(since))
    assert await cost(database, since, until) == pytest.approx(expected)


async def test_a_day_that_was_itself_a_gap_does_not_count(database: Database) -> None:
    """Nor does the part of an hour that was: what came in the rest of it says how much comes."""
    silent = [(day * DAY + 2 * HOUR, day * DAY + 3 * HOUR) for day in (-6, -4, -2)]
    silent.append((-DAY + 2 * HOUR + 20, -DAY + 4 * HOUR))
    await history(database, -7 * DAY, 2 * HOUR, silent)
    assert await cost(database, 2 * HOUR, 3 * HOUR) == pytest.approx(60 * BY_NIGHT)


async def test_seven_days_are_looked_at(database: Database) -> None:
    """What came eight days before says nothing."""
    await history(database, -9 * DAY, 2 * HOUR)
    await run(database, f"UPDATE tallies SET count = 7000 WHERE minute < {TODAY - 7 * DAY}")  # noqa: S608
    assert await cost(database, 2 * HOUR, 3 * HOUR) == pytest.approx(60 * BY_NIGHT)


async def test_an_hour_in_which_the_source_began_counts_as_far_as_it_was_there(database: Database) -> None:
    """It began half an hour late on the first of two days; what came then came in the half."""
    await history(database, -2 * DAY + 2 * HOUR + 30, 2 * HOUR)
    assert await cost(database, 2 * HOUR, 3 * HOUR) == pytest.approx(60 * BY_NIGHT)


async def test_the_first_day_goes_by_the_24_hours_before(database: Database) -> None:
    """Where nobody listened at that time on any day before, the average of what was covered."""
    await history(database, 6 * HOUR, 22 * HOUR)
    average = (12 * BY_DAY + 4 * BY_NIGHT) / 16
    assert await cost(database, 22 * HOUR, 23 * HOUR) == pytest.approx(60 * average, rel=0.01)


async def test_hours_without_a_day_before_go_by_the_24_hours_before(database: Database) -> None:
    """A gap on the second day, half in an hour that the first day knew."""
    await history(database, -DAY + 12 * HOUR, 11 * HOUR + 30)
    average = (11.5 * BY_DAY + 12 * BY_NIGHT) / 23.5
    expected = 30 * average + 30 * BY_DAY
    assert await cost(database, 11 * HOUR + 30, 12 * HOUR + 30) == pytest.approx(expected, rel=0.01)


async def test_nothing_is_suspected_where_nothing_is_known(database: Database) -> None:
    """A source that never listened."""
    assert await cost(database, 60, 120) == 0
