"""A small store with something of everything in it, and what `headrace verify` says of a store."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import Connection, insert

from ingest.deliveries import Parked
from ingest.event import Cause
from storage.books.posting import Posting
from storage.cursors import SqlCursors
from storage.engine import Database, open_database
from storage.gaps import SourceKey, add_gaps, begin_gap
from storage.intervals import Stretch
from storage.migrate import migrate
from storage.retention import Retention
from storage.rows import to_micros
from storage.store import SqlStore
from storage.tables import coverage, losses
from storage.verify.finding import Finding
from storage.verify.whole import Verification, Verified
from tests.support.fresh import SQLITE, fresh_store, server_of
from tests.support.records import NOW, a_reject, an_ignored, numbered

FLEET = SourceKey("fleet", "webhook")
_HOUR = 3_600_000_000


async def verified(database: Database) -> Verified:
    """What the product finds."""
    return await Verification(database, lambda _count: None).run()


async def differences(database: Database) -> Sequence[Finding]:
    """What the product finds wrong."""
    return (await verified(database)).differences


def filled_store(kind: str, folder: Path) -> str:
    """Return the URL of a store that `fill` filled: it is filled once, and copied."""
    if kind != SQLITE:
        return server_of(kind).fresh_database(_filled_template(kind))
    (folder / "test.db").write_bytes(_filled_file())
    return f"sqlite:///{folder}/test.db"


@functools.cache
def _filled_template(kind: str) -> str:
    url = fresh_store(kind, Path())
    asyncio.run(_fill_at(url))
    return url


@functools.cache
def _filled_file() -> bytes:
    with TemporaryDirectory() as folder:
        asyncio.run(_fill_at(f"sqlite:///{folder}/filled.db"))
        return Path(folder, "filled.db").read_bytes()


async def _fill_at(url: str) -> None:
    database = open_database(url)
    await migrate(database)
    await fill(database)
    await database.close()


async def fill(database: Database) -> None:
    """Store events of two sources at 1 to 300: 1 and 2 have expired, what is behind 240 is not in the books yet."""
    store = SqlStore(database, lambda: NOW)
    await store.commit(numbered(2, received_at=NOW - timedelta(days=3)))
    for start, source in ((2, "fleet"), (100, "lab"), (200, "fleet")):
        await store.commit(numbered((98, 100, 40)[start // 100], start, source=source))
    await store.commit([*numbered(3, 2), a_reject(), an_ignored()])  # duplicates
    await Posting(database).post_all()
    await store.commit(numbered(60, 240))
    await Retention(database, timedelta(days=1), (), lambda: NOW).purge()
    await _deliver(database)
    await database.write(_add_gaps_and_losses)


async def _deliver(database: Database) -> None:
    """Let a handler pass 50 positions; one of its events waits, and one is a dead letter."""
    cursor = await SqlCursors(database).acquire("alerts", holder="test", begin="beginning")
    assert cursor is not None
    waiting = Parked(7, "dev1", 1, NOW, NOW + timedelta(hours=1), "boom")
    await cursor.advance(2, skipped=2)
    await cursor.advance(30, [waiting, Parked(9, "dev1", 3, NOW, None, "boom")], unmatched=5)
    await cursor.advance(50, unmatched=1)
    await cursor.release()


def _add_gaps_and_losses(connection: Connection) -> None:
    now = to_micros(NOW)
    add_gaps(connection, FLEET, [Stretch(now, now + _HOUR), Stretch(now + 2 * _HOUR, now + 3 * _HOUR)], Cause.DOWN)
    begin_gap(connection, FLEET, now + 4 * _HOUR, Cause.IDLE)
    listened = {"source": "fleet", "mode": "webhook", "stream": 0, "since": now + _HOUR, "until": now + 2 * _HOUR}
    connection.execute(insert(coverage).values(listened))
    range_ = {"source": "fleet", "product": "tracker", "device": "dev1", "state": "lost", "noticed_at": 0, "due_at": 0}
    connection.execute(insert(losses), [range_ | {"id": 1, "first": 5, "last": 9}])
    connection.execute(insert(losses), [range_ | {"id": 6, "first": 15, "last": 15}])
