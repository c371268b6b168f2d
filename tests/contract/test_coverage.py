"""What protocols.Coverage promises: intervals of listening by the database's clock, a gap row for all between.

A process that was killed is a SqlCoverage that nobody asks again. Times are made with `ago`, so nothing waits.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from functools import partial
from typing import ParamSpec, TypeVar

import pytest
from sqlalchemy import Connection

from ingest.coverage import Gap
from ingest.errors import StoreUnavailable
from ingest.event import Cause, Origin
from storage.clock import database_now
from storage.coverage import SqlCoverage
from storage.engine import Database, Work, open_database
from storage.rows import to_micros
from tests.support.gated_database import GatedDatabase
from tests.support.postgres_proxy import proxied
from tests.support.stored import rows, run

P = ParamSpec("P")
T = TypeVar("T")

FLEET = Origin("tracker", "fleet", "sse")
OTHER = Origin("tracker", "other", "sse")
INTERVALS = "SELECT id, source, mode, stream, since, until, ended FROM coverage ORDER BY id"
GAPS = "SELECT source, since, until, cause FROM gaps ORDER BY since, id"


@dataclass(frozen=True)
class Interval:
    """A row of coverage."""

    id: int
    source: str
    mode: str
    stream: int
    since: int
    until: int
    ended: bool


async def intervals(database: Database) -> list[Interval]:
    """Every interval, in the order in which they were opened."""
    return [Interval(*row) for row in await rows(database, INTERVALS)]


async def gaps(database: Database) -> list[tuple[int, int | None, str]]:
    """The gaps of FLEET: since, until and cause."""
    return [(since, until, cause) for source, since, until, cause in await rows(database, GAPS) if source == "fleet"]


def told(*found: Gap) -> list[tuple[int, int | None, str]]:
    """Gaps as `gaps` shows the rows."""
    return [(to_micros(g.since), None if g.until is None else to_micros(g.until), g.cause.value) for g in found]


async def test_an_interval_begins_now_and_the_first_start_opens_no_gap(database: Database) -> None:
    """A stream that begins to listen has an interval from now to now; nobody listened before, and nobody claims it."""
    before = await database.read(database_now)
    opened = await SqlCoverage(database).open(FLEET, 1)
    after = await database.read(database_now)

    (row,) = await intervals(database)
    assert (row.id, row.source, row.mode, row.stream) == (opened.interval, "fleet", "sse", 1)
    assert before - 100_000 <= row.since == row.until <= after  # the call was made a from_micros before its turn
    assert (list(opened.ended), list(opened.found), await gaps(database)) == ([], [], [])


async def test_listening_on_moves_the_end_only_and_never_back(database: Database) -> None:
    """Extending reaches until so long ago and leaves the beginning, and other streams' intervals, alone."""
    coverage = SqlCoverage(database)
    first = (await coverage.open(FLEET, 0, ago=100)).interval
    await coverage.open(FLEET, 1, ago=100)
    begun = await intervals(database)

    await coverage.extend(first, ago=10)
    extended = await intervals(database)
    await coverage.extend(first, ago=50)

    assert extended[0].since == begun[0].since
    assert 90e6 <= extended[0].until - begun[0].until < 100e6
    assert extended[1] == begun[1]
    assert await intervals(database) == extended


async def test_what_ends_begins_a_gap_and_what_begins_ends_it(database: Database) -> None:
    """A gap lasts from the last instant of listening to the next first one, and keeps the cause it began with."""
    coverage = SqlCoverage(database)
    first = await coverage.open(FLEET, 0, ago=100)
    await coverage.extend(first.interval, ago=50)

    begun = await coverage.end(first.interval, Cause.IDLE, ago=60)
    lasting = await gaps(database)
    second = await coverage.open(FLEET, 0, ago=5)

    one, two = await intervals(database)
    assert (one.ended, two.ended) == (True, False)
    assert lasting == [(one.until, None, "idle")] == told(*begun)
    assert await gaps(database) == [(one.until, two.since, "idle")] == told(*second.ended)
    assert list(second.found) == []


async def test_an_end_is_never_before_the_beginning(database: Database) -> None:
    """However long ago a stream is said to have listened last, its interval has no negative length."""
    coverage = SqlCoverage(database)
    opened = await coverage.open(FLEET, 0, ago=10)
    await coverage.end(opened.interval, Cause.ERROR, ago=1000)

    (row,) = await intervals(database)
    assert row.since == row.until
    assert await gaps(database) == [(row.since, None, "error")]


async def test_a_process_that_was_killed_leaves_a_gap(database: Database) -> None:
    """The next process ends what the dead one left open where it last listened: from there on it was down."""
    killed = SqlCoverage(database)
    left = await killed.open(FLEET, 0, ago=100)
    await killed.extend(left.interval, ago=50)

    opened = await SqlCoverage(database).open(FLEET, 0)

    one, two = await intervals(database)
    assert (one.ended, two.ended) == (True, False)
    assert await gaps(database) == [(one.until, two.since, "down")] == told(*opened.found)
    assert list(opened.ended) == []


async def test_a_clean_stop_is_no_crash(database: Database) -> None:
    """Where the last process said that it stops, the gap has that cause and not another one beside it."""
    stopped = SqlCoverage(database)
    await stopped.end((await stopped.open(FLEET, 0, ago=100)).interval, Cause.STOPPED, ago=50)

    opened = await SqlCoverage(database).open(FLEET, 0)

    one, two = await intervals(database)
    assert await gaps(database) == [(one.until, two.since, "stopped")] == told(*opened.ended)
    assert list(opened.found) == []


async def test_killed_again_and_again_every_stretch_is_told_once(database: Database) -> None:
    """Whatever a process was doing when it died, gaps and intervals of the history never overlap and leave no hole."""
    for ago in range(1000, 0, -100):
        coverage = SqlCoverage(database)
        opened = await coverage.open(FLEET, 0, ago=ago)
        if ago % 300 == 100:
            await coverage.end(opened.interval, Cause.CLOSED, ago=ago - 20)
            opened = await coverage.open(FLEET, 0, ago=ago - 30)
        await coverage.extend(opened.interval, ago=ago - 50)
        if ago % 200 == 0:
            await coverage.end(opened.interval, Cause.IDLE, ago=ago - 60)

    *told_first, last = await intervals(database)
    covered = [(row.since, row.until) for row in told_first]
    missing = [(since, until) for since, until, _ in await gaps(database)]
    parts = sorted([*covered, *missing])
    assert [until for _, until in parts] == [*[since for since, _ in parts[1:]], last.since]


async def test_while_another_stream_listens_there_is_no_gap(database: Database) -> None:
    """Of two streams one may end and begin again."""
    coverage = SqlCoverage(database)
    first = (await coverage.open(FLEET, 0, ago=100)).interval
    await coverage.open(FLEET, 1, ago=98)

    assert list(await coverage.end(first, Cause.CLOSED, ago=50)) == []
    again = await coverage.open(FLEET, 0, ago=40)
    assert (list(again.ended), list(again.found), await gaps(database)) == ([], [], [])


async def test_a_stream_that_was_deaf_did_not_cover_for_the_other(database: Database) -> None:
    """A hole in one stream shows as a gap when the other, believed to listen, turns out to have been deaf before it."""
    coverage = SqlCoverage(database)
    first = (await coverage.open(FLEET, 0, ago=100)).interval
    deaf = (await coverage.open(FLEET, 1, ago=100)).interval
    await coverage.end(first, Cause.CLOSED, ago=50)
    await coverage.open(FLEET, 0, ago=47)

    found = await coverage.end(deaf, Cause.IDLE, ago=55)

    one, _, three = await intervals(database)
    assert await gaps(database) == [(one.until, three.since, "idle")] == told(*found)


async def test_when_the_last_stream_ends_the_gap_begins_where_anybody_last_listened(database: Database) -> None:
    """Two streams that die of the same make one gap, from the later end on."""
    coverage = SqlCoverage(database)
    first = (await coverage.open(FLEET, 0, ago=100)).interval
    second = (await coverage.open(FLEET, 1, ago=100)).interval
    assert list(await coverage.end(first, Cause.IDLE, ago=50)) == []

    found = await coverage.end(second, Cause.IDLE, ago=52)

    one, _ = await intervals(database)
    assert await gaps(database) == [(one.until, None, "idle")] == told(*found)


async def test_less_than_a_second_together_is_a_gap(database: Database) -> None:
    """Where a stream ends just after another began, what was under way may have reached neither."""
    coverage = SqlCoverage(database)
    first = (await coverage.open(FLEET, 0, ago=100)).interval
    await coverage.open(FLEET, 1, ago=10.4)

    found = await coverage.end(first, Cause.CLOSED, ago=10)

    one, two = await intervals(database)
    assert 0 < one.until - two.since < 1e6
    assert await gaps(database) == [(two.since, one.until, "closed")] == told(*found)


async def test_ending_twice_tells_nothing_twice(database: Database) -> None:
    """A caller that heard no answer may end again; the gap is there once."""
    coverage = SqlCoverage(database)
    interval = (await coverage.open(FLEET, 0, ago=100)).interval
    await coverage.end(interval, Cause.IDLE, ago=50)
    before = await gaps(database)

    assert list(await coverage.end(interval, Cause.ERROR, ago=50)) == []
    assert await gaps(database) == before


async def test_only_the_tail_is_looked_at(database: Database) -> None:
    """What lies before the last interval is history: it is neither read again nor judged again."""
    await run(
        database,
        "INSERT INTO coverage (source, mode, stream, since, until, ended) "
        "VALUES ('fleet', 'sse', 0, 10, 20, true), ('fleet', 'sse', 0, 900000000, 950000000, true)",
    )
    coverage = SqlCoverage(database)
    opened = await coverage.open(FLEET, 0, ago=100)
    await coverage.end(opened.interval, Cause.IDLE)

    *_, last = await intervals(database)
    assert await gaps(database) == [(950000000, last.since, "down"), (last.until, None, "idle")]


async def test_sources_do_not_cover_for_one_another(database: Database) -> None:
    """Each source and mode has gaps of its own."""
    coverage = SqlCoverage(database)
    fleet = await coverage.open(FLEET, 0, ago=100)
    await coverage.open(OTHER, 0, ago=100)
    await coverage.end(fleet.interval, Cause.IDLE, ago=50)

    assert [source for source, *_ in await rows(database, GAPS)] == ["fleet"]


async def test_streams_that_start_together_take_nothing_from_each_other(database: Database) -> None:
    """Two streams of one process that open at once both listen, whichever takes over from the dead."""
    coverage = SqlCoverage(database)
    await asyncio.gather(coverage.open(FLEET, 0, ago=9), coverage.open(FLEET, 1, ago=9))

    assert [row.ended for row in await intervals(database)] == [False, False]


class Forgetful:
    """A database that commits and, when told to, does not say so."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.dialect = database.dialect
        self.silent = False

    async def write(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See Database."""
        result = await self._database.write(work, *args, **kwargs)
        if self.silent:
            raise StoreUnavailable("the answer was lost")
        return result

    async def read(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See Database."""
        return await self._database.read(work, *args, **kwargs)

    async def alter(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See Database."""
        return await self._database.alter(work, *args, **kwargs)

    async def close(self) -> None:
        """See Database."""


async def test_an_interval_whose_opening_went_unanswered_does_not_cover(database: Database) -> None:
    """Nobody extends or ends it: the next opening does, and leaves the other stream's interval alone."""
    forgetful = Forgetful(database)
    coverage = SqlCoverage(forgetful)
    first = (await coverage.open(FLEET, 0, ago=100)).interval
    forgetful.silent = True
    with pytest.raises(StoreUnavailable):
        await coverage.open(FLEET, 1, ago=90)
    forgetful.silent = False

    await coverage.open(FLEET, 1, ago=80)
    assert [row.ended for row in await intervals(database)] == [False, True, False]
    await coverage.end(first, Cause.IDLE, ago=90)

    one, _, three = await intervals(database)
    assert await gaps(database) == [(one.until, three.since, "idle")]


async def test_an_interval_whose_end_was_not_recorded_does_not_cover(database: Database) -> None:
    """Where the store was away at the end and nobody tried again, the next opening finds the hole."""
    away = GatedDatabase(database)
    coverage = SqlCoverage(away)
    interval = (await coverage.open(FLEET, 0, ago=100)).interval
    await coverage.extend(interval, ago=50)
    away.away = True
    with pytest.raises(StoreUnavailable):
        await coverage.end(interval, Cause.IDLE)
    away.away = False

    opened = await coverage.open(FLEET, 0)

    one, two = await intervals(database)
    assert told(*opened.found) == [(one.until, two.since, "down")] == await gaps(database)


async def test_what_a_gap_may_have_cost(database: Database) -> None:
    """Suspected is the gap's length times the arrivals per covered second before it; copies and others do not count."""
    coverage = SqlCoverage(database)
    first = await coverage.open(FLEET, 0, ago=3700)
    await coverage.end(first.interval, Cause.IDLE, ago=3100)
    second = await coverage.open(FLEET, 0, ago=3000)
    minute = (await database.read(database_now)) // 60_000_000
    counted = [(61, "stored", 500), (40, "redelivery", 60), (30, "overlap", 40)]
    ignored = [(40, "redundant", 7000), (40, "rejected", 7000), (3, "stored", 7000), (70, "stored", 7000)]
    values = [f"('fleet', 'sse', {minute - ago}, '{what}', {count})" for ago, what, count in [*counted, *ignored]]
    values.append(f"('other', 'sse', {minute - 40}, 'stored', 7000)")
    await run(database, f"INSERT INTO tallies (source, mode, minute, outcome, count) VALUES {', '.join(values)}")  # noqa: S608

    (lasting,) = await coverage.end(second.interval, Cause.IDLE, ago=600)
    (ended,) = (await coverage.open(FLEET, 0, ago=480)).ended

    assert lasting.suspected == 0
    # 3,100 seconds from the first start to the gap, of which 100 are a gap themselves; 600 events in these.
    assert ended.suspected == pytest.approx(120 * 600 / 3000, rel=0.01)
    assert await rows(database, "SELECT suspected FROM gaps WHERE suspected > 0") == [(ended.suspected,)]


async def test_what_is_usual_is_what_came_within_a_day(database: Database) -> None:
    """Where nobody listened at that time of the day on any day before; what came longer ago says nothing of today."""
    coverage = SqlCoverage(database)
    opened = await coverage.open(FLEET, 0, ago=22 * 3600)
    minute = (await database.read(database_now)) // 60_000_000
    values = f"('fleet', 'sse', {minute - 60}, 'stored', 7920), ('fleet', 'sse', {minute - 30 * 60}, 'stored', 7000)"
    await run(database, f"INSERT INTO tallies (source, mode, minute, outcome, count) VALUES {values}")  # noqa: S608

    await coverage.end(opened.interval, Cause.IDLE, ago=100)
    (ended,) = (await coverage.open(FLEET, 0)).ended

    assert ended.suspected == pytest.approx(10, rel=0.1)


async def test_the_databases_clock_is_a_clock(database: Database) -> None:
    """The database's time is microseconds since 1970 and agrees with this machine's within a second."""
    assert abs(await database.read(database_now) - time.time() * 1e6) < 1e6


async def test_a_store_that_is_away_is_said_so(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """None of the calls hides that nothing was recorded."""
    async with proxied(postgres_url, tmp_path_factory.mktemp("p")) as (proxy, through):
        database = open_database(through)
        coverage = SqlCoverage(database)
        interval = (await coverage.open(FLEET, 0)).interval
        for attempt in (
            coverage.open(FLEET, 1),
            coverage.extend(interval),
            coverage.end(interval, Cause.IDLE),
        ):
            proxy.cut_before(b"COMMIT;")
            with pytest.raises(StoreUnavailable):
                await attempt
        await coverage.end(interval, Cause.IDLE)
        assert len(await gaps(database)) == 1
        await database.close()


async def test_a_call_that_has_to_wait_claims_nothing_of_the_wait(database: Database) -> None:
    """While it waits for the writer the stream may be deaf: `ago` counts from the call, not from its turn."""
    gated = GatedDatabase(database)
    coverage = SqlCoverage(gated)
    opened = await coverage.open(FLEET, 0, ago=10)
    gated.close_gate()
    called = micros_now()
    extending = asyncio.create_task(coverage.extend(opened.interval))
    await asyncio.sleep(0.5)
    gated.open_gate()
    await extending

    (interval,) = await intervals(database)
    assert abs(interval.until - called) < 250_000


def micros_now() -> int:
    """The time of day, which both databases of the tests share with us."""
    return round(time.time() * 1_000_000)


@pytest.mark.parametrize("late", [0.2, -0.2], ids=["after", "before"])
async def test_a_busy_processor_makes_no_interval_longer(
    database: Database, monkeypatch: pytest.MonkeyPatch, late: float
) -> None:
    """Whoever loses the processor just before or after he asks the database's clock covers less than it was, not more.

    A gap that ended a moment too early left an event outside that nobody had heard.
    """
    coverage = SqlCoverage(database)
    monkeypatch.setattr("storage.coverage.database_now", partial(database_now_beside_others, late=late))
    opening = micros_now()
    opened = await coverage.open(FLEET, 0)
    extending = micros_now()
    await coverage.extend(opened.interval)
    (extended,) = await intervals(database)
    ending = micros_now()
    await coverage.end(opened.interval, Cause.IDLE)
    (ended,) = await intervals(database)

    assert extended.since >= opening - 1000  # SQLite's clock has whole milliseconds
    assert extended.until <= extending + 100_000
    assert ended.until <= ending + 100_000


def database_now_beside_others(connection: Connection, late: float) -> int:
    """The database's clock, with a pause before it (`late` < 0) or after it, in seconds."""
    time.sleep(max(0.0, -late))
    now = database_now(connection)
    time.sleep(max(0.0, late))
    return now
