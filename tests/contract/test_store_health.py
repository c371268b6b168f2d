"""Whether the store takes commits: told by those that are made, asked for where there are none, the same on both."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path

import asyncpg
import pytest
from structlog.testing import capture_logs

from ingest.errors import StoreUnavailable
from storage import sqlite
from storage.engine import Database, open_database
from storage.health import WatchedStore
from storage.migrate import migrate
from storage.store import SqlStore
from tests.contract.test_store_faults import no_room
from tests.support.fresh import SQLITE
from tests.support.gated_database import GatedDatabase
from tests.support.records import NOW, numbered
from tests.support.stored import positions, run
from tests.support.virtual_time import in_virtual_time


class Nowhere:
    """storage.engine.Database in which writes do nothing."""

    dialect = "none"

    async def write(self, *_: object) -> None:
        """See Database."""

    async def read(self, *_: object) -> None:
        """See Database."""

    async def close(self) -> None:
        """See Database."""


class Silent:
    """protocols.Store that never answers."""

    async def commit(self, records: object) -> None:
        """See protocols.Store."""
        await asyncio.Event().wait()


def watched(database: Database, probe_seconds: float = 0.05) -> WatchedStore:
    """A store that is looked after."""
    return WatchedStore(SqlStore(database, lambda: NOW), database, probe_seconds=probe_seconds)


@asynccontextmanager
async def running(store: WatchedStore) -> AsyncIterator[None]:
    """Probe where nobody commits."""
    task = asyncio.create_task(store.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(store: WatchedStore, fault: str | None) -> None:
    """Return when the store has this fault, or None."""
    async with asyncio.timeout(30):
        while store.fault() != fault:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.01)


@asynccontextmanager
async def head_locked(url: str) -> AsyncIterator[None]:
    """Another process holds what every commit needs."""
    if url.startswith("sqlite"):
        connection = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.close()
        return
    other = await asyncpg.connect(url)
    async with other.transaction():
        await other.execute("SELECT * FROM head FOR UPDATE")
        yield
    await other.close()


FAILED = "the last commit failed"


async def test_a_store_is_at_fault_from_a_commit_that_failed_to_one_that_succeeds(
    url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While another one holds the head neither a commit nor a probe helps; when it lets go, a probe does."""
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.1)
    impatient = open_database(url)
    store = watched(impatient)
    assert store.fault() == "it was not written to yet"
    await store.commit(numbered(1))
    assert store.fault() is None

    async with running(store):
        async with head_locked(url):
            with pytest.raises(StoreUnavailable):
                await store.commit(numbered(1, 1))
            assert store.fault() == FAILED
            with pytest.raises(StoreUnavailable):
                await store.commit(numbered(1, 1))
            assert store.fault() == FAILED
        await until(store, None)
    assert await positions(database) == [1]
    await impatient.close()


async def test_a_store_that_nobody_commits_to_is_asked(database: Database) -> None:
    """It is known to be away, and to be back, without a sender; what is asked leaves nothing behind."""
    gated = GatedDatabase(database)
    store = watched(gated)
    async with running(store):
        await until(store, None)
        gated.away = True
        await until(store, FAILED)
        gated.away = False
        await until(store, None)
    await store.commit(numbered(2))
    assert await positions(database) == [1, 2]


async def test_a_disk_that_can_only_be_read_is_a_fault(url: str, database: Database) -> None:
    """What is asked is a write: reading works, and says nothing."""
    if database.dialect != SQLITE:
        pytest.skip("PostgreSQL's stands in test_store_faults")
    store = watched(database)
    async with running(store):
        await until(store, None)
        file = Path(url.removeprefix("sqlite:///"))
        with closing(sqlite3.connect(file)) as other:  # so that the next write needs room
            other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        with no_room(file), capture_logs():  # where pytest collects them there is no room either
            await until(store, FAILED)
        await until(store, None)
        await run(database, "PRAGMA query_only = 1")
        await until(store, FAILED)
        assert await positions(database) == []


@in_virtual_time
async def test_a_commit_that_does_not_return_is_a_fault() -> None:
    """After five seconds in which none succeeded, and not before; it stays one as long as nothing comes back."""
    loop = asyncio.get_running_loop()
    database = GatedDatabase(Nowhere())  # type: ignore[arg-type]  # writes nothing
    store = WatchedStore(Silent(), database, clock=loop.time)  # type: ignore[arg-type]  # returns nothing
    async with running(store):
        await asyncio.sleep(1)
        assert store.fault() is None
        committing = asyncio.create_task(store.commit([]))
        await asyncio.sleep(60)
        assert store.fault() is None  # the others pass: it is this one's trouble
        database.close_gate()
        await asyncio.sleep(2.9)
        assert store.fault() is None
        await asyncio.sleep(3)
        assert store.fault() == "a commit has not returned for 5 s"
        await asyncio.sleep(3600)
        assert store.fault() == "a commit has not returned for 5 s"
        database.open_gate()
        await asyncio.sleep(0.1)
        assert store.fault() is None
        committing.cancel()


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("replaced", [False, True])
async def test_nothing_is_told_as_stored_in_a_file_that_is_not_there(
    suffix: str, apart: bool, replaced: bool, tmp_path: Path
) -> None:
    """Removed, or another one in its place, also for a writer that is new: refused until it is put back."""
    url, file = f"sqlite:///{tmp_path}/test.db", tmp_path / f"test.db{suffix}"
    first = open_database(url)
    await migrate(first)
    await SqlStore(first, lambda: NOW).commit(numbered(1))
    database = open_database(url, write_apart=apart)
    store = watched(database)
    async with running(store):
        await until(store, None)
        file.rename(tmp_path / "elsewhere")
        if replaced:
            shutil.copy(tmp_path / "elsewhere", file)
        with pytest.raises(StoreUnavailable, match="put it back"):
            await store.commit(numbered(1, 1))
        await until(store, FAILED)
        (tmp_path / "elsewhere").rename(file)
        await until(store, None)
        await store.commit(numbered(1, 2))
    await database.close()
    assert (await positions(first))[-1] >= 2
    await first.close()


async def test_no_writer_makes_a_file_in_the_place_of_one_that_was_removed(tmp_path: Path) -> None:
    """A process that replaces a dead one would find an empty database, which nobody asked for."""
    url, file = f"sqlite:///{tmp_path}/test.db", tmp_path / "test.db"
    first = open_database(url)
    await migrate(first)
    database = open_database(url, write_apart=True)  # its process starts with the first write
    file.rename(tmp_path / "elsewhere")
    with pytest.raises(StoreUnavailable, match="put it back"):
        await SqlStore(database, lambda: NOW).commit(numbered(1))
    assert not file.exists()
    await database.close()
    await first.close()
