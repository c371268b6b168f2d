"""Events in partitions: made ahead, taken out as a whole when they are old, and nobody loses or refuses anything."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from uuid import UUID

import asyncpg
import pytest
from sqlalchemy import Connection

from ingest.errors import StoreUnavailable
from ingest.event import Event, Outcome
from storage import by_device, dead_letters, deliveries, partitions, whole_partitions
from storage.engine import Database, open_database
from storage.partition_care import PartitionCare
from storage.queries.events import EventFilter, event_by_id, events_page
from storage.queries.page import PageSpan
from storage.retention import Retention
from storage.rows import to_micros
from storage.store import SqlStore
from tests.support.fresh import DEBIAN, POSTGRES
from tests.support.partitioned import ROWS, names, small_partitions
from tests.support.records import NOW, an_event, numbered
from tests.support.stored import positions, rejects, rows, run, tallies

STORES = (POSTGRES, DEBIAN)
OLD = NOW - timedelta(days=31)


@pytest.fixture
async def database(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Database]:
    """PostgreSQL with partitions of 1,024 positions."""
    database = open_database(postgres_url)
    await small_partitions(database, monkeypatch)
    yield database
    await database.close()


def retention_of(database: Database, handlers: Sequence[str] = (), days_later: float = 0) -> Retention:
    """Thirty days."""
    now = NOW + timedelta(days=days_later)
    return Retention(database, timedelta(days=30), handlers, lambda: now)


async def fill(database: Database, events: Sequence[Event]) -> None:
    """Commit in batches of 1,000, as the inbox does."""
    store = SqlStore(database, lambda: NOW)
    for start in range(0, len(events), 1000):
        commit = await store.commit(events[start : start + 1000])
        assert set(commit.outcomes) == {Outcome.STORED}


async def passed(database: Database, handler: str, position: int, paused_at: str = "NULL") -> None:
    """A handler's cursor."""
    await run(
        database,
        "INSERT INTO cursors (handler, position, epoch, paused_at)"  # noqa: S608
        f" VALUES ('{handler}', {position}, 1, {paused_at})",
    )


async def parked(database: Database, handler: str, position: int, due_at: str = "NULL") -> None:
    """A row of deliveries; without a time it is a dead letter."""
    values = f"'{handler}', {position}, 1, {due_at}, ''"
    await run(database, f"INSERT INTO deliveries (handler, position, attempts, due_at, error) VALUES ({values})")  # noqa: S608


async def ids_left(database: Database) -> list[int]:
    """The positions of the ids that are known."""
    return [position for (position,) in await rows(database, "SELECT position FROM ids ORDER BY position")]


async def balanced(database: Database) -> bool:
    """Whether rows = stored - expired, and each has its id."""
    counted, there = await tallies(database), await positions(database)
    return len(there) == counted["stored"] - counted.get("expired", 0) and there == await ids_left(database)


async def test_a_commit_makes_the_partition_that_nobody_made(database: Database) -> None:
    """However fast the store fills, no sender hears of partitions: positions are dense, and nothing is rejected."""
    await fill(database, numbered(6 * ROWS))

    assert await positions(database) == list(range(1, 6 * ROWS + 1))
    assert await rejects(database) == []
    assert len(await database.read(names)) >= 7


async def test_without_a_partition_the_store_is_away(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where none can be made the whole batch is deferred, and nothing of it is taken for bad data."""
    await fill(database, numbered(3 * ROWS - 100))

    def denied(_connection: Connection, _now: int) -> int:
        return 0

    monkeypatch.setattr(partitions, "make_ahead", denied)
    with pytest.raises(StoreUnavailable, match="no partition"):
        await fill(database, numbered(150, 3 * ROWS))
    assert await rejects(database) == []
    assert await tallies(database) == {"stored": 3 * ROWS - 100}


async def test_partitions_hold_about_a_day(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that gets more in a day makes larger ones, so that there are not ever more of them."""
    monkeypatch.setattr(partitions, "LARGEST", 8 * ROWS)
    await fill(database, numbered(4 * ROWS, received_at=OLD))
    await database.write(partitions.make_ahead, to_micros(OLD + timedelta(days=30)))
    slow = (await database.read(partitions.attached))[-1]
    await fill(database, numbered(2 * ROWS, 4 * ROWS, received_at=OLD))

    await database.write(partitions.make_ahead, to_micros(OLD + timedelta(hours=1)))

    quick = (await database.read(partitions.attached))[-1]
    assert (slow.end - slow.first, quick.end - quick.first) == (ROWS, 2 * ROWS)


async def scene(database: Database) -> list[Event]:
    """Three partitions and a bit of old events, of which a few are needed still: 5 dead, 7 parked, 9 dated ahead."""
    events = numbered(3 * ROWS + 100, received_at=OLD)
    events[8] = an_event("ahead", received_at=NOW + timedelta(days=400))
    await fill(database, events)
    await SqlStore(database, lambda: NOW).commit(events[3:6])
    await passed(database, "alerts", 3 * ROWS + 100)
    await parked(database, "alerts", 5)
    await parked(database, "alerts", 7, str(to_micros(NOW)))
    return events


async def test_what_is_old_goes_as_a_whole_and_what_is_needed_stays(database: Database) -> None:
    """Dead letters, retries and dates in the future are read, found and handed on as before; all else is tallied."""
    events = await scene(database)

    assert await retention_of(database, ["alerts"]).purge() == 3 * ROWS - 1 - 3

    assert (await positions(database))[:4] == [5, 7, 9, 3 * ROWS]
    assert await balanced(database)
    assert (await database.read(names))[:2] == [f"events_kept_{3 * ROWS}", f"events_p{3 * ROWS}"]
    assert await database.read(partitions.taken_out) == []
    assert await rows(database, "SELECT position FROM sightings ORDER BY position") == [(5,)]

    kept = await database.read(event_by_id, events[4].id)
    assert kept is not None
    assert (kept.position, len(kept.sightings), [row.state for row in kept.deliveries]) == (5, 1, ["dead"])
    assert await database.read(event_by_id, events[5].id) is None
    page = await database.read(events_page, EventFilter(device="dev1"), PageSpan(limit=4))
    assert [row.position for row in page.rows] == [5, 7, 9, 3 * ROWS]
    due = await database.read(deliveries.due, "alerts", NOW, 10, by_device=False)
    assert [event.id for _, event in due] == [events[6].id]


async def test_what_was_kept_goes_when_nobody_needs_it(database: Database) -> None:
    """A dead letter that is redriven and delivered, or deleted, and a date that has come: as old as any other then."""
    await scene(database)
    retention = retention_of(database, ["alerts"])
    await retention.purge()
    assert await database.write(dead_letters.give_back, "alerts") == 1
    await database.write(deliveries.delete_rows, "alerts", [5, 7])

    assert await retention.purge() == 2 + 101
    assert await positions(database) == [9]
    later = retention_of(database, ["alerts"], days_later=500)
    assert await later.purge() == 1
    assert await ids_left(database) == []
    assert await balanced(database)


async def test_a_partition_waits_for_every_handler(database: Database) -> None:
    """It stays whole as long as a configured handler has not passed its last event."""
    await fill(database, numbered(2 * ROWS + 100, received_at=OLD))
    await passed(database, "slow", ROWS + 50)
    await passed(database, "gone", 1)

    assert await retention_of(database, ["slow"]).purge() == ROWS - 1
    assert (await positions(database))[0] == ROWS
    await run(database, f"UPDATE cursors SET position = {2 * ROWS + 100}")  # noqa: S608
    assert await retention_of(database, ["slow"]).purge() == ROWS + 101
    assert await balanced(database)


async def test_what_a_paused_handler_loses_is_written_down(database: Database) -> None:
    """One that is paused for longer than the retention holds nothing, and a row says what it will never have."""
    await fill(database, numbered(2 * ROWS, received_at=OLD))
    await passed(database, "paused", 300, str(to_micros(OLD)))
    await parked(database, "other", 700)
    counted: dict[str, int] = {}
    retention = Retention(
        database, timedelta(days=30), ["paused"], lambda: NOW, count_skipped=lambda who, n: counted.update({who: n})
    )

    await retention.purge()

    (first, *_) = await rows(database, "SELECT first_position, last_position, events FROM skipped")
    total = 2 * ROWS - 300 - 1
    assert (first[0], first[2]) == (301, total)
    assert await positions(database) == [700]


async def test_rows_go_with_their_partition_where_that_is_soon(database: Database) -> None:
    """Of a partition that was filled within a quarter of the retention no single row is deleted: it is no lag."""
    await fill(database, numbered(500, received_at=OLD))
    await fill(database, numbered(600, 500, received_at=OLD + timedelta(days=3)))
    retention = retention_of(database)

    assert await retention.purge() == 0
    assert await retention.lag_seconds() == 0
    assert await retention_of(database, days_later=3).purge() == 1100


async def test_rows_go_by_themselves_where_a_partition_takes_long(database: Database) -> None:
    """A small store, whose partition takes weeks to fill, keeps no event for weeks too long."""
    await fill(database, numbered(500, received_at=OLD))
    await fill(database, numbered(600, 500, received_at=NOW))

    assert await retention_of(database).purge() == 500
    assert (await positions(database))[0] == 501
    assert await balanced(database)
    assert await retention_of(database, days_later=31).purge() == 600


async def test_an_event_that_is_sent_again_while_its_id_is_being_forgotten_is_new(database: Database) -> None:
    """Between the partition and its ids: it is stored once more, and its new id is not forgotten with the old."""
    events = numbered(ROWS + 1, received_at=OLD)
    await fill(database, events)
    oldest = (await database.read(partitions.attached))[1]
    before, now = to_micros(NOW - timedelta(days=30)), to_micros(NOW)
    out = await database.alter(whole_partitions.take_out, oldest, before, now, ())
    assert out is not None
    assert out.gone == ROWS - 1
    assert await database.read(partitions.taken_out) != []

    store = SqlStore(database, lambda: NOW)
    again = numbered(1, 10)
    assert list((await store.commit(again)).outcomes) == [Outcome.STORED]
    assert list((await store.commit(again)).outcomes) == [Outcome.REDELIVERY]
    await retention_of(database).purge()

    assert await database.read(partitions.taken_out) == []
    assert await positions(database) == [ROWS + 2]
    assert await balanced(database)
    assert list((await store.commit(again)).outcomes) == [Outcome.REDELIVERY]


async def test_it_is_taken_out_under_load(database: Database, postgres_url: str) -> None:
    """While two processes commit and one reads, nothing is rejected, deferred or lost."""
    await fill(database, numbered(3 * ROWS, received_at=OLD))
    others = [open_database(postgres_url) for _ in range(2)]
    over = asyncio.Event()

    async def commit(database: Database, start: int) -> int:
        store, number = SqlStore(database, lambda: NOW), start
        while not over.is_set():
            outcomes = (await store.commit(numbered(20, number))).outcomes
            assert set(outcomes) == {Outcome.STORED}
            number += 20
        return number - start

    async def read() -> None:
        while not over.is_set():
            await database.read(events_page, EventFilter(device="dev1"), PageSpan(limit=5, descending=True))

    committing = [asyncio.create_task(commit(other, 1_000_000 * number)) for number, other in enumerate(others, 1)]
    reading = asyncio.create_task(read())
    gone = 0
    for _ in range(20):
        gone += await retention_of(database).purge()
        if gone >= 3 * ROWS:
            break
    over.set()
    stored = sum(await asyncio.gather(*committing))
    await reading

    assert gone == 3 * ROWS
    assert await rejects(database) == []
    assert await balanced(database)
    assert len(await positions(database)) == stored
    for other in others:
        await other.close()


async def test_old_rows_of_a_partition_that_took_long_wait_for_none_behind_it(database: Database) -> None:
    """They go one by one, also where a partition after theirs was filled quickly and will go as a whole."""
    await fill(database, numbered(2 * ROWS, received_at=OLD))
    await fill(database, numbered(3 * ROWS, 2 * ROWS, received_at=NOW))

    assert await retention_of(database).purge() == 2 * ROWS
    assert (await positions(database))[0] == 2 * ROWS + 1


async def test_a_long_reader_holds_nobody_up(
    database: Database, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who reads for long keeps the partition, not the ingestion: the lock is given up until the next look."""
    monkeypatch.setattr(whole_partitions, "_TRIES", 2)
    await fill(database, numbered(ROWS, received_at=OLD))
    reader = await asyncpg.connect(postgres_url)
    async with reader.transaction():
        await reader.fetch("SELECT * FROM events LIMIT 1")
        assert await retention_of(database).purge() == 1
        await fill(database, numbered(10, 2 * ROWS))
    await reader.close()

    assert await retention_of(database).purge() == ROWS - 1
    assert await balanced(database)


async def test_two_processes_take_out_once(database: Database, postgres_url: str) -> None:
    """Replicas that look at the same time tally nothing twice."""
    await fill(database, numbered(3 * ROWS, received_at=OLD))
    other = open_database(postgres_url)

    async def purge(database: Database) -> None:
        for _ in range(10):  # one of them may be ended in favour of the other
            try:
                await retention_of(database).purge()
            except StoreUnavailable:
                continue
            return
        raise AssertionError("never got through")

    await asyncio.gather(purge(database), purge(other))

    assert await tallies(database) == {"stored": 3 * ROWS, "expired": 3 * ROWS}
    assert await positions(database) == []
    await other.close()


async def test_pages_run_through_partitions(database: Database) -> None:
    """By position, by device, by time and by id: in order across the edges, from both ends."""
    events = [
        an_event(device=f"dev{number % 50}", published_at=NOW + timedelta(seconds=number)) for number in range(3 * ROWS)
    ]
    await fill(database, events)
    edge = PageSpan(limit=4, after=ROWS - 3)
    page = await database.read(events_page, EventFilter(), edge)
    assert [row.position for row in page.rows] == [ROWS - 2, ROWS - 1, ROWS, ROWS + 1]
    last = await database.read(events_page, EventFilter(device="dev7"), PageSpan(limit=3, descending=True))
    assert [row.position for row in last.rows] == [number + 1 for number in range(3 * ROWS) if number % 50 == 7][-3:][
        ::-1
    ]
    since = NOW + timedelta(seconds=ROWS - 3)
    timed = await database.read(
        events_page, EventFilter(since=since, until=since + timedelta(seconds=4)), PageSpan(limit=10)
    )
    assert [row.position for row in timed.rows] == [ROWS - 2, ROWS - 1, ROWS, ROWS + 1]
    found: list[UUID] = []
    for event in events[:: ROWS // 2]:
        full = await database.read(event_by_id, event.id)
        assert full is not None
        found.append(full.id)
    assert found == [event.id for event in events[:: ROWS // 2]]


async def test_a_devices_pages_are_the_same_by_either_index(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Full partitions get an index by device, once; across the edge to the one that is filled no page changes."""
    events = [
        an_event(device=f"dev{number % 50}", published_at=NOW + timedelta(seconds=number))
        for number in range(3 * ROWS + 200)
    ]
    await fill(database, events)
    before = await pages_of(database, "dev7")
    care = PartitionCare(database, lambda: NOW)

    await care.look_after()

    assert await database.read(by_device.indexed_before) == 3 * ROWS
    assert await database.read(by_device.lacking) == []
    assert await pages_of(database, "dev7") == before
    assert before[0] == before[1][::-1] == [number + 1 for number in range(len(events)) if number % 50 == 7]
    monkeypatch.setattr(partitions, "add", refused)
    await care.look_after()


async def test_what_is_kept_longer_has_an_index_by_device(database: Database) -> None:
    """Taking partitions out ends no index: what was kept of them is found as before."""
    await scene(database)
    await PartitionCare(database, lambda: NOW).look_after()
    await retention_of(database, ["alerts"]).purge()

    assert await database.read(by_device.indexed_before) == 3 * ROWS
    assert (await pages_of(database, "dev1"))[0][:3] == [5, 7, 9]


def refused(_connection: Connection, partition: partitions.Partition) -> None:
    """Nothing is missing any more."""
    raise AssertionError(partition)


async def pages_of(database: Database, device: str) -> tuple[list[int], list[int]]:
    """The positions of a device's events, page by page from either end."""
    wanted, found = EventFilter(device=device), (list[int](), list[int]())
    after: int | None = 0
    while after is not None:
        page = await database.read(events_page, wanted, PageSpan(limit=7, after=after))
        found[0].extend(row.position or 0 for row in page.rows)
        after = page.next
    end: int | None = 1 << 40
    while end is not None:
        page = await database.read(events_page, wanted, PageSpan(limit=7, before=end, descending=True))
        found[1].extend(row.position or 0 for row in page.rows)
        end = page.next
    return found
