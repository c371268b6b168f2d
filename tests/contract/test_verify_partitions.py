"""What `verify` sees on PostgreSQL is of one moment, also where a partition is taken out meanwhile."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import asyncpg
import pytest
from sqlalchemy import Connection, func, select

from storage import bulk, partitions, whole_partitions
from storage.books.place import take_place
from storage.books.posting import Posting
from storage.engine import Database
from storage.partitions import Partition
from storage.retention import Retention
from storage.rows import to_micros
from storage.store import SqlStore
from storage.tables import events, tallies
from storage.verify.snapshot import of_one_moment
from tests.support.balanced import differences
from tests.support.fresh import DEBIAN, POSTGRES
from tests.support.partitioned import small_partitions
from tests.support.records import NOW, numbered
from tests.support.stored import run

STORES = (POSTGRES, DEBIAN)
_LOCK = 7
_WAITING = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = $1 AND NOT granted"


def _count_slowly(connection: Connection) -> tuple[int, int]:
    """Return how many events were tallied, and how many are there, looked at after the test says so."""
    tallied = int(connection.execute(select(func.sum(tallies.c.count))).scalar_one())
    bulk.run(connection, f"SELECT pg_advisory_xact_lock({_LOCK})")
    return tallied, int(connection.execute(select(func.count()).select_from(events)).scalar_one())


async def test_a_delivery_that_ends_while_its_partition_is_taken_out_is_no_difference(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was kept for its sake stays, and is not tallied as expired."""
    await small_partitions(database, monkeypatch)
    await SqlStore(database, lambda: NOW).commit(numbered(1500))
    await Posting(database).post_all()
    await run(database, "INSERT INTO cursors (handler, position, epoch, delivered) VALUES ('h', 1500, 1, 1500)")
    await run(database, "INSERT INTO deliveries (handler, position, attempts, error) VALUES ('h', 7, 1, 'boom')")

    def take_place_meanwhile(connection: Connection, name: str) -> int:
        bulk.run(connection, "DELETE FROM deliveries")
        return take_place(connection, name)

    monkeypatch.setattr(whole_partitions, "take_place", take_place_meanwhile)
    await database.alter(whole_partitions.take_out, *await _due(database), ("h",))
    assert await differences(database) == []


async def _due(database: Database) -> tuple[Partition, int, int]:
    """The oldest partition, which is due as a whole, and the times by which it is."""
    _, (oldest, *_) = await database.read(partitions.filled)
    return oldest.partition, to_micros(NOW + timedelta(days=1)), to_micros(NOW + timedelta(days=2))


async def test_a_partition_stays_as_long_as_a_moment_is_looked_at(
    database: Database, another: Database, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rows would be missing in what was counted a moment before; retention takes it out later."""
    monkeypatch.setattr(whole_partitions, "_TRIES", 2)
    await small_partitions(database, monkeypatch)
    await SqlStore(database, lambda: NOW).commit(numbered(1500))
    retention = Retention(database, timedelta(days=1), (), lambda: NOW + timedelta(days=2))
    holder = await asyncpg.connect(url)
    await holder.execute(f"SELECT pg_advisory_lock({_LOCK})")
    looking = asyncio.create_task(another.read(of_one_moment, _count_slowly))
    while not await holder.fetchval(_WAITING, _LOCK):  # noqa: ASYNC110 - the server has no event
        await asyncio.sleep(0.01)
    await retention.purge()
    await holder.execute(f"SELECT pg_advisory_unlock({_LOCK})")
    assert await looking == (1500, 1500)
    await holder.close()
    await retention.purge()
    assert await database.read(_count_slowly) == (3000, 0), "stored and expired"
