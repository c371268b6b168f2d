"""What ingest.protocols.Feed promises, on SQLite and on PostgreSQL: every committed event, once, in order."""

from __future__ import annotations

import asyncio
import time
import tracemalloc
from collections.abc import Sequence
from functools import partial

import msgspec
import pytest

from ingest.event import Commit, Event, Outcome
from ingest.submission import weight
from storage.engine import Database
from storage.feed import SqlFeed
from storage.store import SqlStore
from tests.support.records import NOW, an_event, numbered
from tests.support.stored import run


async def commit(database: Database, feed: SqlFeed | None, events: Sequence[Event]) -> None:
    """Commit as a process does: its own feed is told."""
    committed = await SqlStore(database, lambda: NOW).commit(events)
    if feed is not None:
        feed.publish(committed, sum(map(weight, events)))


async def all_of(feed: SqlFeed, limit: int) -> list[Event]:
    """What a reader from the beginning gets."""
    events: list[Event] = []
    while found := await feed.read(events[-1].position or 0 if events else 0, limit):
        assert len(found) <= limit
        events += found
    return events


@pytest.mark.parametrize("limit", [1, 7, 1000])
async def test_memory_and_database_say_the_same(database: Database, limit: int) -> None:
    """What was just committed reads alike from memory and from the database, in pages of any size."""
    told, cold = SqlFeed(database), SqlFeed(database)
    for start in range(0, 40, 10):
        await commit(database, told, numbered(10, start, data=b"\x00\xff"))

    assert await all_of(told, limit) == await all_of(cold, limit)
    assert [event.position for event in await all_of(told, limit)] == list(range(1, 41))


async def test_events_that_are_read_share_no_attributes(database: Database) -> None:
    """What a handler of the operator's writes into one event is not seen in another."""
    cold = SqlFeed(database)
    await commit(database, None, numbered(2))
    first, second = await cold.read(0, 2)
    assert first.attributes == second.attributes == {}
    assert first.attributes is not second.attributes


async def test_a_reader_skips_no_commit_of_another_process(database: Database, another: Database) -> None:
    """Other processes' commits between ours are read in their place, wherever the reader stands."""
    feed = SqlFeed(database)
    await commit(database, feed, numbered(3))
    await commit(another, None, numbered(3, 3))
    await commit(database, feed, numbered(3, 6))

    for after in range(9):
        found = await feed.read(after, 100)
        assert [event.position for event in found][:1] == [after + 1]
    assert [event.position for event in await all_of(feed, 100)] == list(range(1, 10))


async def test_a_batch_cut_in_two_by_another_process_is_read_in_order(database: Database, another: Database) -> None:
    """Where another process committed between the halves of one batch, nothing between them is skipped."""
    feed = SqlFeed(database)
    await commit(database, feed, numbered(2))
    store = SqlStore(database, lambda: NOW)
    first = await store.commit(numbered(2, 2))
    await commit(another, None, numbered(2, 4))
    second = await store.commit(numbered(2, 6))

    feed.publish(Commit([*first.outcomes, *second.outcomes], lambda: [*first.events(), *second.events()]), 1000)

    assert [event.position for event in await feed.read(4, 10)] == [5, 6, 7, 8]
    assert [event.position for event in await all_of(feed, 3)] == list(range(1, 9))


async def test_there_is_nothing_behind_the_head(database: Database) -> None:
    """Reading at or beyond the last position is empty, also where the events before it were deleted."""
    feed = SqlFeed(database)
    assert list(await feed.read(0, 10)) == []
    await commit(database, feed, numbered(3))

    assert list(await feed.read(3, 10)) == list(await feed.read(99, 10)) == []
    await run(database, "DELETE FROM events")
    assert list(await SqlFeed(database).read(3, 10)) == []


async def test_a_waiting_reader_is_woken_by_a_commit(database: Database) -> None:
    """A commit of this process wakes every reader at once."""
    feed = SqlFeed(database)
    waiting = [asyncio.create_task(feed.wait(0)) for _ in range(3)]
    await asyncio.sleep(0)
    started = time.monotonic()
    await commit(database, feed, numbered(1))

    await asyncio.gather(*waiting)
    assert time.monotonic() - started < 0.9  # sooner than it looks by itself


async def test_a_commit_between_read_and_wait_is_not_slept_over(database: Database) -> None:
    """Waiting for what is there already returns at once."""
    feed = SqlFeed(database)
    assert list(await feed.read(0, 1)) == []
    await commit(database, feed, numbered(1))

    async with asyncio.timeout(0.5):
        await feed.wait(0)


async def test_a_commit_of_another_process_is_noticed(database: Database, another: Database) -> None:
    """Without being told, a reader comes back within five seconds and finds what another process committed."""
    feed = SqlFeed(database)
    await commit(another, None, numbered(1))

    async with asyncio.timeout(5):
        await feed.wait(0)
    assert [event.position for event in await feed.read(0, 10)] == [1]


@pytest.mark.parametrize("read", [False, True])
async def test_memory_is_bounded(database: Database, read: bool) -> None:
    """However large events are, in data or in attributes, what is remembered of them stays within its bound."""
    feed = SqlFeed(database)
    tracemalloc.start()
    for start in range(100):
        text = f"{start:06}" * 170_000
        large = [an_event(data=text.encode()), an_event(attributes={"large": text})]
        placed = [_placed(event, 2 * start + 1 + index) for index, event in enumerate(large)]
        feed.publish(Commit([Outcome.STORED] * 2, partial(list, placed)), sum(map(weight, large)))
        if read:
            await feed.read(2 * start, 1)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert 4_000_000 < held < 50_000_000


async def test_events_that_nobody_reads_are_not_made(database: Database) -> None:
    """A commit costs the feed nothing until somebody reads there, and then only as far as that one reads."""
    feed, made = SqlFeed(database), list[int]()
    for start in range(0, 40, 10):
        committed = await SqlStore(database, lambda: NOW).commit(numbered(10, start))

        def make(committed: Commit = committed, start: int = start) -> Sequence[Event]:
            made.append(start)
            return committed.events()

        feed.publish(Commit(committed.outcomes, make), 1000)
    assert made == []

    assert [event.position for event in await feed.read(0, 15)] == list(range(1, 16))
    assert made == [0, 10]
    assert len(await all_of(feed, 7)) == 40
    assert made == [0, 10, 20, 30]


def _placed(event: Event, position: int) -> Event:
    return msgspec.structs.replace(event, position=position)
