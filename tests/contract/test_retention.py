"""Retention forgets what is old, in small steps, and never what a handler still needs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import ParamSpec, TypeVar
from uuid import UUID

import pytest
from sqlalchemy import select

from ingest.errors import StoreUnavailable
from ingest.event import Outcome
from storage import dead_letters
from storage.dead_letters import Chosen
from storage.engine import Database, Work
from storage.retention import Retention
from storage.rows import to_micros
from storage.store import SqlStore
from storage.tables import events
from tests.support.records import NOW, a_reject, an_event, numbered
from tests.support.stored import positions, rows, run, tallies

P = ParamSpec("P")
T = TypeVar("T")

OLD = NOW - timedelta(days=31)


def retention_of(database: Database, handlers: Sequence[str] = ()) -> Retention:
    """Thirty days."""
    return Retention(database, timedelta(days=30), handlers, lambda: NOW, every_seconds=0.01)


async def fill(database: Database, old: int, new: int = 0) -> None:
    """Events received before and within the retention."""
    store = SqlStore(database, lambda: NOW)
    await store.commit([*numbered(old, received_at=OLD), *numbered(new, old)])


async def passed(database: Database, handler: str, position: int) -> None:
    """A handler's cursor."""
    await run(database, f"INSERT INTO cursors (handler, position, epoch) VALUES ('{handler}', {position}, 1)")  # noqa: S608


async def parked(database: Database, handler: str, position: int, due_at: str) -> None:
    """A row of deliveries; NULL is a dead letter."""
    values = f"'{handler}', {position}, 1, {due_at}, ''"
    await run(database, f"INSERT INTO deliveries (handler, position, attempts, due_at, error) VALUES ({values})")  # noqa: S608


class Watched:
    """A database that tells how many events are left after every write."""

    def __init__(self, database: Database, written: Callable[[int], object]) -> None:
        self._database = database
        self._written = written
        self.dialect = database.dialect

    async def write(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See Database."""
        result = await self._database.write(work, *args, **kwargs)
        self._written(len(await positions(self._database)))
        return result

    async def read(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See Database."""
        return await self._database.read(work, *args, **kwargs)

    async def alter(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See Database."""
        return await self._database.alter(work, *args, **kwargs)

    async def close(self) -> None:
        """See Database."""


async def test_the_old_goes_and_is_tallied(database: Database) -> None:
    """Events and rejects older than the retention go, with their sightings; rows = stored - expired."""
    store = SqlStore(database, lambda: NOW)
    await fill(database, old=5, new=3)
    await store.commit([*numbered(5, source="other"), a_reject(b"old", received_at=OLD), a_reject(b"new")])

    assert await retention_of(database).purge() == 5

    assert await positions(database) == [6, 7, 8]
    assert await rows(database, "SELECT body FROM rejects") == [(b"new",)]
    assert await rows(database, "SELECT * FROM sightings") == []
    counted = await tallies(database)
    assert (counted["stored"], counted["expired"]) == (8, 5)
    assert await rows(database, "SELECT source, mode, count FROM tallies WHERE outcome = 'expired'") == [
        ("fleet", "webhook", 5)
    ]


async def test_coverage_and_gaps_go_when_they_are_over(database: Database) -> None:
    """Old intervals and gaps go; what lasts stays, and so does each source's newest interval: a gap may begin there."""
    old, new = to_micros(OLD), to_micros(NOW)
    intervals = [
        *[("fleet", old + number, old + number, "true") for number in range(1200)],
        ("fleet", old, old + 5000, "true"),
        *[("fleet", old, old, "false"), ("fleet", new, new, "true"), ("idle", old, old, "true")],
        *[("idle", old + 1, old + 1, "true"), ("idle", old, old, "true")],
    ]
    listed = ", ".join(
        f"('{source}', 'sse', 0, {since}, {until}, {ended})" for source, since, until, ended in intervals
    )
    await run(database, f"INSERT INTO coverage (source, mode, stream, since, until, ended) VALUES {listed}")  # noqa: S608
    stretches = [*[(old, old)] * 1200, (old, "NULL"), (old, new)]
    listed = ", ".join(f"('fleet', 'sse', {since}, {until}, 'down')" for since, until in stretches)
    await run(database, f"INSERT INTO gaps (source, mode, since, until, cause) VALUES {listed}")  # noqa: S608

    assert await retention_of(database).purge() == 0

    left = await rows(database, "SELECT source, since, until FROM coverage ORDER BY id")
    assert left == [("fleet", old, old), ("fleet", new, new), ("idle", old + 1, old + 1)]
    assert await rows(database, "SELECT since, until FROM gaps ORDER BY id") == [(old, None), (old, new)]


async def test_it_forgets_in_steps_of_at_most_five_hundred(database: Database) -> None:
    """No transaction deletes more than 500 events, and all that is due goes in one round."""
    await fill(database, old=1700, new=1)
    left: list[int] = [1701]

    assert await retention_of(Watched(database, left.append)).purge() == 1700

    assert max(before - after for before, after in pairwise(left)) <= 500
    assert left[-1] == 1


async def test_the_ingestion_commits_between_the_steps(database: Database) -> None:
    """A batch that arrives during a long round does not wait for its end."""
    await fill(database, old=5000)
    store = SqlStore(database, lambda: NOW)
    begun = asyncio.Event()
    forgetting = asyncio.create_task(retention_of(Watched(database, lambda _: begun.set())).purge())
    await begun.wait()

    await store.commit(numbered(1, 10_000))

    assert not forgetting.done()
    assert len(await positions(database)) > 1000
    assert await forgetting == 5000


async def test_what_a_handler_has_not_passed_stays(database: Database) -> None:
    """An old event waits for the slowest configured handler; one that is no longer configured holds nothing."""
    await fill(database, old=10)
    await passed(database, "quick", 8)
    await passed(database, "slow", 4)
    await passed(database, "gone", 0)

    await retention_of(database, ["quick", "slow"]).purge()
    assert await positions(database) == [5, 6, 7, 8, 9, 10]

    await run(database, "UPDATE cursors SET position = 10 WHERE handler = 'slow'")
    await retention_of(database, ["quick", "slow"]).purge()
    assert await positions(database) == [9, 10]


async def test_what_waits_for_a_retry_and_dead_letters_stay(database: Database) -> None:
    """A retry of a configured handler holds its event and what follows; a dead letter, whoever's, its own event."""
    await fill(database, old=10)
    await passed(database, "alerts", 10)
    await parked(database, "alerts", 2, "NULL")
    await parked(database, "gone", 3, "1")
    await parked(database, "gone", 4, "NULL")
    await parked(database, "alerts", 6, "1")

    await retention_of(database, ["alerts"]).purge()

    assert await positions(database) == [2, 4, 6, 7, 8, 9, 10]
    left = await rows(database, "SELECT position FROM deliveries ORDER BY position")
    assert left == [(2,), (4,), (6,)]


async def ids(database: Database, positions: Sequence[int]) -> Sequence[UUID]:
    """The ids of the events at these positions."""
    query = select(events.c.id).where(events.c.position.in_(positions))
    return await database.read(lambda connection: list(connection.execute(query).scalars()))


async def remove_dead(database: Database, positions: Sequence[int] | None = None) -> int:
    """Delete dead letters of `gone`, all or those at these positions; return how many."""
    chosen = Chosen(ids=None if positions is None else await ids(database, positions))
    return sum([count async for count in dead_letters.each_step(database, dead_letters.remove, "gone", chosen)])


async def test_a_dead_letter_stays_until_it_is_redriven_or_deleted(database: Database) -> None:
    """Then its event is as old as any other; the others' stay. What was deleted needs no restart to go."""
    await fill(database, old=1200, new=1)
    for position in range(1, 1101):
        await parked(database, "gone", position, "NULL")
    retention = retention_of(database)
    assert await retention.purge() == 100
    assert len(await positions(database)) == 1101

    assert await remove_dead(database, [3, 700, 1150]) == 2
    assert await retention.purge() == 2
    assert await database.write(dead_letters.give_back, "gone", Chosen(ids=await ids(database, [5]))) == 1
    assert await retention.purge() == 1
    assert await database.write(dead_letters.remove, "other") == 0
    assert await remove_dead(database) == 1097
    assert await retention.purge() == 1097
    assert await positions(database) == [1201]


async def test_an_emptied_store_does_not_begin_again(database: Database) -> None:
    """Positions go on where they were after everything was forgotten: no cursor is ever ahead of the store."""
    await fill(database, old=5)
    assert await retention_of(database).purge() == 5

    commit = await SqlStore(database, lambda: NOW).commit(numbered(2))

    assert list(commit.outcomes) == [Outcome.STORED] * 2  # deduplication reaches back as far as the retention
    assert [event.position for event in commit.events()] == [6, 7]


async def test_two_processes_count_what_went_once(database: Database, another: Database) -> None:
    """Replicas that purge at the same time do not tally the same event as expired twice."""
    await fill(database, old=3000)

    async def purge(database: Database) -> int:
        for _ in range(10):  # PostgreSQL may end one of them in favour of the other
            try:
                return await retention_of(database).purge()
            except StoreUnavailable:
                continue
        raise AssertionError("never got through")

    await asyncio.gather(purge(database), purge(another))

    assert await positions(database) == []
    assert await tallies(database) == {"stored": 3000, "expired": 3000}


FUTURE = NOW + timedelta(days=9999)


@pytest.mark.parametrize("ahead", [FUTURE, NOW])
@pytest.mark.parametrize("count", [500, 1700])
async def test_each_row_is_judged_alone(database: Database, ahead: datetime, count: int) -> None:
    """However many rows that stay lie in front, by date or by a clock gone wrong, the old ones behind them go."""
    store = SqlStore(database, lambda: NOW)
    await store.commit(
        [*numbered(count, received_at=ahead), *(a_reject(b"new", received_at=ahead) for _ in range(count))]
    )
    await store.commit(
        [*numbered(600, count, received_at=OLD), *(a_reject(b"old", received_at=OLD) for _ in range(600))]
    )
    await store.commit(numbered(1, 5000))
    old, new, far = to_micros(OLD), to_micros(ahead), to_micros(FUTURE)
    spans = [*[(new, far, "false")] * count, *[(old, old, "true")] * 600, (old, new, "true")]
    listed = ", ".join(f"('fleet', 'sse', 0, {since}, {until}, {ended})" for since, until, ended in spans)
    await run(database, f"INSERT INTO coverage (source, mode, stream, since, until, ended) VALUES {listed}")  # noqa: S608
    listed = ", ".join(f"('fleet', 'sse', {since}, {until}, 'down')" for since, until, _ in spans)
    await run(database, f"INSERT INTO gaps (source, mode, since, until, cause) VALUES {listed}")  # noqa: S608

    assert await retention_of(database).purge() == 600

    assert await positions(database) == [*range(1, count + 1), count + 601]
    assert await rows(database, "SELECT DISTINCT body FROM rejects") == [(b"new",)]
    for table in ("coverage", "gaps"):
        assert await rows(database, f"SELECT COUNT(*) FROM {table}") == [(count + 1,)]  # noqa: S608


async def test_what_was_in_front_by_date_goes_in_its_time(database: Database) -> None:
    """Rows that were dated in the future go when that future is past, without a restart."""
    store = SqlStore(database, lambda: NOW)
    await store.commit(numbered(600, received_at=NOW + timedelta(days=1)))
    now = [NOW]
    retention = Retention(database, timedelta(days=30), (), lambda: now[0])
    assert await retention.purge() == 0
    now[0] = NOW + timedelta(days=32)
    assert await retention.purge() == 600


async def test_a_sweep_goes_on_where_the_last_one_ended(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a large store a round looks at a part of what is young; round by round every row is looked at."""
    monkeypatch.setattr("storage.retention._SWEPT_IN_VAIN", 1)
    store = SqlStore(database, lambda: NOW)
    await store.commit(numbered(2000))
    await store.commit(numbered(1, 2000, received_at=OLD))
    retention = retention_of(database)

    assert [await retention.purge() for _ in range(6)] == [0, 0, 0, 0, 1, 0]


async def test_an_event_from_the_future_does_not_hold_the_others(database: Database) -> None:
    """One event that was received by a clock gone wrong stays, and what is old behind it goes in the same round."""
    store = SqlStore(database, lambda: NOW)
    await store.commit([an_event(received_at=NOW + timedelta(days=9999))])
    await store.commit(numbered(1200, 1, received_at=OLD))

    assert await retention_of(database).purge() == 1200
    assert await positions(database) == [1]


async def test_it_outlives_a_store_that_is_away(database: Database) -> None:
    """A round that fails because the store is away is followed by the next one."""
    await fill(database, old=5)
    done = asyncio.Event()
    failures = iter([StoreUnavailable("gone"), StoreUnavailable("still gone")])

    def written(left: int) -> None:
        if (failure := next(failures, None)) is not None:
            raise failure
        if left == 0:
            done.set()

    running = asyncio.create_task(retention_of(Watched(database, written)).run())
    async with asyncio.timeout(5):
        await done.wait()

    assert not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_lag_is_what_should_have_gone(database: Database) -> None:
    """It is how long ago the oldest event was due that is there: a handler that has not passed it keeps it, a dead
    letter does not count."""
    await fill(database, old=3, new=1)
    await passed(database, "alerts", 2)
    await parked(database, "alerts", 1, "NULL")
    retention = retention_of(database, ["alerts"])
    assert await retention.lag_seconds() == 86_400
    await retention.purge()
    assert await positions(database) == [1, 3, 4]
    assert await retention.lag_seconds() == 86_400
    await run(database, "UPDATE cursors SET position = 4")
    await retention.purge()
    assert await positions(database) == [1, 4]
    assert await retention.lag_seconds() == 0
