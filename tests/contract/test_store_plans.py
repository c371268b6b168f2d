"""How PostgreSQL goes about its statements: what they cost must not grow with what is stored."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from datetime import timedelta

import pytest
from sqlalchemy import text

from ingest.deliveries import Parked, Seen
from ingest.event import Event
from storage.books.comparison import Comparison
from storage.cursors import SqlCursor, SqlCursors
from storage.engine import open_database
from storage.events_at import events_at
from storage.feed import SqlFeed
from storage.partition_care import PartitionCare
from storage.queries.dead_letters import dead_page, dead_positions
from storage.queries.events import EventFilter, event_by_id, events_page
from storage.queries.handlers import handler_rows
from storage.queries.page import PageSpan
from storage.retention import Retention
from storage.store import SqlStore, touch_head
from tests.support.compared import FLEET
from tests.support.explained import Listening, Plan, plans_of
from tests.support.fresh import DEBIAN, POSTGRES
from tests.support.partitioned import small_partitions
from tests.support.records import NOW, an_event, numbered

STORES = (POSTGRES, DEBIAN)
ROWS = 4096  # a partition's, a block's
PARTITIONS = 6
OLD = NOW - timedelta(days=31)
DEVICES = 50


@pytest.fixture
async def listening(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Listening]:
    """PostgreSQL with small partitions, never analysed."""
    database = Listening(open_database(postgres_url))
    await small_partitions(database, monkeypatch, ROWS)
    yield database
    await database.close()


async def fill(database: Listening) -> None:
    """Six partitions of events, of many devices."""
    store = SqlStore(database, lambda: NOW)
    for start in range(0, (PARTITIONS * 4 + 3) * 1024, 1024):
        await store.commit([stamped(number) for number in range(start, start + 1024)])


def stamped(number: int, later: int = 0) -> Event:
    """A message of a device, as it was stamped so many seconds later."""
    at = NOW + timedelta(seconds=number + later)
    return an_event(device=f"d{number % DEVICES}", published_at=at, message=f"m{number}")


def parked(position: int, *, dead: bool = False) -> Parked:
    """A row that failed once."""
    return Parked(position, f"d{position % DEVICES}", 1, NOW, None if dead else NOW, "boom")


async def cursor_at(database: Listening, position: int) -> SqlCursor:
    """A handler's cursor that has left some rows behind."""
    cursor = await SqlCursors(database).acquire("h", holder="one", begin="beginning")
    assert cursor is not None
    left = [parked(at, dead=at % 2 == 0) for at in range(1000, 1040)]
    await cursor.advance(position, left, seen=None)
    return cursor


async def write_hotly(database: Listening, cursor: SqlCursor) -> None:
    """What is written again and again: commits, saves of a cursor, and what follows from events."""
    store = SqlStore(database, lambda: NOW)
    compared = Comparison(database, (FLEET,), lambda: NOW + timedelta(hours=1))
    await compared.post_all()
    for number in range(3):
        events = numbered(20, 10_000_000 + number * 10)  # half of them are known
        await store.commit(events)
        await store.commit([stamped(at, 10_000_000) for at in range(number * 100 - 10, number * 100 + 10)])
    await compared.post_all()
    await database.write(touch_head)
    at = cursor.position + 100
    event = (await SqlFeed(database).read(at - 1, 1))[0]
    await cursor.advance(at, [parked(at)], [1001], seen=Seen(at, event.id))


async def read_hotly(database: Listening, cursor: SqlCursor) -> None:
    """What handlers and people ask for."""
    feed, middle = SqlFeed(database), PARTITIONS // 2 * ROWS
    event = (await feed.read(middle, 500))[0]
    await cursor.due(NOW, 10, by_device=False)
    await cursor.due(NOW, 10, by_device=True)
    await cursor.behind(["d1", "d2"], 10)
    await cursor.waiting_devices()
    await cursor.lag()
    await database.read(event_by_id, event.id)
    for wanted in (EventFilter(), EventFilter(device="d7"), EventFilter(since=NOW, until=NOW + timedelta(minutes=1))):
        for span in (PageSpan(limit=5, after=middle), PageSpan(limit=5, descending=True)):
            await database.read(events_page, wanted, span)
    await database.read(dead_page, "h", PageSpan())
    await database.read(dead_positions, "h", [event.id])
    await database.read(handler_rows)
    await Retention(database, timedelta(days=3000), ["h"], lambda: NOW).purge()


def faults(plan: Plan, hot: Collection[str]) -> list[str]:
    """What a plan should not do. Of small tables that are asked now and then there need not be an index."""
    found = ["disabled"] if plan.disabled() and plan.statement in hot else []
    found += [f"reads all of {name}" for name in plan.scanned() if name.startswith(("events", "ids", "messages"))]
    if plan.rows_seen("messages") > 1:
        found.append("looks through messages")
    if len(plan.partitions()) > 2:
        found.append(f"looks at {sorted(plan.partitions())}")
    return found


@pytest.mark.parametrize("analysed", [False, True])
async def test_every_hot_statement_goes_by_an_index_and_to_few_partitions(
    listening: Listening, postgres_url: str, analysed: bool
) -> None:
    """By the plan for its values and by the one for any values, which a connection keeps: none reads a table from end
    to end, none does what is switched off, and each looks only at the partitions that it concerns."""
    await fill(listening)
    cursor = await cursor_at(listening, 2 * ROWS + 100)
    if analysed:
        await listening.write(lambda connection: connection.execute(text("ANALYZE")) and None)
    await PartitionCare(listening, lambda: NOW).look_after()
    listening.statements.clear()
    await write_hotly(listening, cursor)
    hot = {statement.text for statement in listening.statements}
    await read_hotly(listening, cursor)

    plans = await plans_of(postgres_url, listening.statements)

    assert len(plans) > 60
    assert any("INSERT INTO events" in text for text in hot)  # what goes past SQLAlchemy is among them
    assert [f"{faults(plan, hot)} {plan}" for plan in plans if faults(plan, hot)] == []


async def test_positions_are_looked_up_each_in_its_partition(listening: Listening, postgres_url: str) -> None:
    """A list of them would be looked for in every partition that has any of them."""
    await fill(listening)
    wanted = [1, 2 * ROWS + 1, 5 * ROWS + 1]
    listening.statements.clear()
    assert [*await listening.read(events_at, wanted)] == wanted

    plans = await plans_of(postgres_url, listening.statements)

    conditions = [node["Index Cond"] for plan in plans for node in plan.nodes() if "Index Cond" in node]
    assert conditions
    assert [condition for condition in conditions if "ANY" in condition] == []
