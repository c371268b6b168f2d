"""What the books say of committed events, on both databases."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from storage.books.posting import Posting
from storage.engine import Database
from storage.retention import Retention
from storage.store import SqlStore
from tests.support.records import an_event
from tests.support.stored import rows

BLOCKS = "SELECT block, source, mode, events, checksum FROM blocks ORDER BY block, source, mode"
NOW = datetime(2026, 7, 28, tzinfo=UTC)


async def test_blocks_add_up_to_the_events(database: Database) -> None:
    """Each event is posted once, however often the books are kept; what expires is taken off again."""
    store = SqlStore(database, lambda: NOW)
    events = [an_event(data=b"%d" % number, received_at=NOW, published_at=NOW) for number in range(5000)]
    posting = Posting(database)
    for start in range(0, 5000, 1000):
        await store.commit(events[start : start + 1000])
        await posting.post_all()
    await posting.post_all()

    found = await rows(database, BLOCKS)
    assert [tuple(row[:4]) for row in found] == [(0, "fleet", "webhook", 4095), (1, "fleet", "webhook", 905)]
    sums = [sum(event.id.int % (1 << 48) for event in part) for part in (events[:4095], events[4095:])]
    assert [row[4] for row in found] == sums

    later = NOW + timedelta(days=2)
    assert await Retention(database, timedelta(days=1), [], lambda: later).purge() == 5000
    assert await rows(database, BLOCKS) == []


async def test_what_expires_before_it_is_posted_is_in_no_block(database: Database) -> None:
    """Retention may be first: then nothing is taken off, and nothing posted later."""
    await SqlStore(database, lambda: NOW).commit([an_event(received_at=NOW)])
    later = NOW + timedelta(days=2)
    assert await Retention(database, timedelta(days=1), [], lambda: later).purge() == 1
    await Posting(database).post_all()
    assert await rows(database, BLOCKS) == []
