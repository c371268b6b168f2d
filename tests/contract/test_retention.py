"""Retention forgets what is old, in small steps, and never what a handler still needs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta
from itertools import pairwise
from typing import ParamSpec, TypeVar

from ingest.errors import StoreUnavailable
from ingest.event import Outcome
from storage.engine import Database, Work
from storage.retention import Retention
from storage.rows import micros
from storage.store import SqlStore
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

    assert await retention_of(database).forget() == 5

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
    old, new = micros(OLD), micros(NOW)
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

    assert await retention_of(database).forget() == 0

    left = await rows(database, "SELECT source, since, until FROM coverage ORDER BY id")
    assert left == [("fleet", old, old), ("fleet", new, new), ("idle", old + 1, old + 1)]
    assert await rows(database, "SELECT since, until FROM gaps ORDER BY id") == [(old, None), (old, new)]


async def test_it_forgets_in_steps_of_at_most_five_hundred(database: Database) -> None:
    """No transaction deletes more than 500 events, and all that is due goes in one round."""
    await fill(database, old=1700, new=1)
    left: list[int] = [1701]

    assert await retention_of(Watched(database, left.append)).forget() == 1700

    assert max(before - after for before, after in pairwise(left)) <= 500
    assert left[-1] == 1


async def test_the_ingestion_commits_between_the_steps(database: Database) -> None:
    """A batch that arrives during a long round does not wait for its end."""
    await fill(database, old=5000)
    store = SqlStore(database, lambda: NOW)
    begun = asyncio.Event()
    forgetting = asyncio.create_task(retention_of(Watched(database, lambda _: begun.set())).forget())
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

    await retention_of(database, ["quick", "slow"]).forget()
    assert await positions(database) == [5, 6, 7, 8, 9, 10]

    await run(database, "UPDATE cursors SET position = 10 WHERE handler = 'slow'")
    await retention_of(database, ["quick", "slow"]).forget()
    assert await positions(database) == [9, 10]


async def test_what_waits_for_a_retry_stays_and_a_dead_letter_does_not(database: Database) -> None:
    """A parked delivery holds its event; a dead letter, or one of a handler that is gone, goes with it."""
    await fill(database, old=10)
    await passed(database, "alerts", 10)
    await parked(database, "alerts", 2, "NULL")
    await parked(database, "gone", 3, "1")
    await parked(database, "alerts", 6, "1")

    await retention_of(database, ["alerts"]).forget()

    assert await positions(database) == [6, 7, 8, 9, 10]
    assert await rows(database, "SELECT position FROM deliveries") == [(6,)]


async def test_an_emptied_store_does_not_begin_again(database: Database) -> None:
    """Positions go on where they were after everything was forgotten: no cursor is ever ahead of the store."""
    await fill(database, old=5)
    assert await retention_of(database).forget() == 5

    commit = await SqlStore(database, lambda: NOW).commit(numbered(2))

    assert list(commit.outcomes) == [Outcome.STORED] * 2  # deduplication reaches back as far as the retention
    assert [event.position for event in commit.events()] == [6, 7]


async def test_two_processes_count_what_went_once(database: Database, another: Database) -> None:
    """Replicas that forget at the same time do not tally the same event as expired twice."""
    await fill(database, old=3000)

    async def forget(database: Database) -> int:
        for _ in range(10):  # PostgreSQL may end one of them in favour of the other
            try:
                return await retention_of(database).forget()
            except StoreUnavailable:
                continue
        raise AssertionError("never got through")

    await asyncio.gather(forget(database), forget(another))

    assert await positions(database) == []
    assert await tallies(database) == {"stored": 3000, "expired": 3000}


async def test_an_event_from_the_future_does_not_hold_the_others(database: Database) -> None:
    """One event that was received by a clock gone wrong stays, and what is old behind it goes in the same round."""
    store = SqlStore(database, lambda: NOW)
    await store.commit([an_event(received_at=NOW + timedelta(days=9999))])
    await store.commit(numbered(1200, 1, received_at=OLD))

    assert await retention_of(database).forget() == 1200
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
