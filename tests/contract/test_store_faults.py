"""What becomes of a commit when the data, the database or the way to it is at fault: nothing is lost or told wrong."""

from __future__ import annotations

import asyncio
import json
import resource
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ParamSpec, TypeVar

import asyncpg
import pytest
from sqlalchemy import Connection, text

from ingest.errors import StoreUnavailable
from ingest.event import Outcome
from storage import sqlite
from storage.database import CommitUnanswered
from storage.engine import Database, Work, open_database
from storage.store import SqlStore
from tests.support.fresh import ALL
from tests.support.postgres_proxy import Proxy, proxied
from tests.support.records import NOW, a_reject, an_event, numbered
from tests.support.stored import positions, rows, run, tallies
from tests.support.written_apart import move_head

STORES = ALL
P = ParamSpec("P")
T = TypeVar("T")
Line = tuple[Proxy, Database, Database]


def store_of(database: Database) -> SqlStore:
    """A store of a process of its own."""
    return SqlStore(database, lambda: NOW)


_WAITS = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
REFUSED_NAME = "half \ud800"  # no database can write it as text


@pytest.mark.parametrize("bad", [[0], [6], [12], [3, 4], [0, 5, 6, 12]])
async def test_a_record_the_database_refuses_is_set_apart(bad: list[int], database: Database) -> None:
    """One bad row costs its neighbours nothing: it becomes a reject with all that is known of it, they are stored."""
    events = numbered(13)
    for index in bad:
        events[index] = an_event(
            REFUSED_NAME, device=f"dev{index}", data=b"\xff%d" % index, attributes={"index": str(index)}
        )

    commit = await store_of(database).commit(events)

    assert [index for index, outcome in enumerate(commit.outcomes) if outcome is Outcome.REJECTED] == bad
    assert await positions(database) == list(range(1, 14 - len(bad)))
    assert await tallies(database) == {"stored": 13 - len(bad), "rejected": len(bad)}
    kept = await rows(database, "SELECT reason, body, attributes FROM rejects ORDER BY id")
    assert [reason for reason, _, _ in kept] == ["refused_by_store"] * len(bad)
    assert [json.loads(body)["coreid"] for _, body, _ in kept] == [f"dev{index}" for index in bad]
    assert [json.loads(attributes) for *_, attributes in kept] == [{"index": str(index)} for index in bad]


class GoesAway:
    """A database that can be written to `writes` times and is then away."""

    def __init__(self, database: Database, writes: int) -> None:
        self._database = database
        self._writes = writes
        self.dialect = database.dialect

    async def write(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See Database."""
        self._writes -= 1
        if self._writes < 0:
            raise StoreUnavailable("gone")
        return await self._database.write(work, *args, **kwargs)

    async def read(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See Database."""
        return await self._database.read(work, *args, **kwargs)

    async def alter(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See Database."""
        return await self._database.alter(work, *args, **kwargs)

    async def close(self) -> None:
        """See Database."""


async def test_half_a_batch_that_was_committed_is_told_as_stored(database: Database) -> None:
    """Where the store goes away between the halves of a refused batch, what is durable is STORED, the rest DEFERRED."""
    records = [*numbered(2), an_event(REFUSED_NAME), an_event("later")]

    commit = await store_of(GoesAway(database, writes=2)).commit(records)  # the whole is refused, the first half is not

    assert list(commit.outcomes) == [Outcome.STORED] * 2 + [Outcome.DEFERRED] * 2
    assert [event.position for event in commit.events()] == [1, 2] == await positions(database)


async def test_nothing_is_left_while_another_process_holds_the_lock(
    url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit that has to wait too long for the lock raises StoreUnavailable, leaves nothing, and can be repeated."""
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.2)
    impatient = open_database(url)
    held, release = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    async def hold() -> None:
        if database.dialect == "sqlite":
            connection = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
            connection.execute("BEGIN IMMEDIATE")
            held.set()
            await release.wait()
            connection.close()
        else:
            connection = await asyncpg.connect(url)
            async with connection.transaction():
                await connection.execute("SELECT * FROM head FOR UPDATE")
                held.set()
                await release.wait()
            await connection.close()

    holding = loop.create_task(hold())
    await held.wait()
    store = store_of(impatient)
    with pytest.raises(StoreUnavailable):
        await store.commit([*numbered(3), a_reject()])
    release.set()
    await holding

    assert await tallies(database) == {}
    assert await positions(database) == []
    assert list((await store.commit(numbered(3))).outcomes) == [Outcome.STORED] * 3
    await impatient.close()


async def test_a_full_disk_leaves_nothing_and_passes(database: Database) -> None:
    """Where SQLite finds no room the batch is StoreUnavailable as a whole; with room again the same store goes on."""
    if database.dialect != "sqlite":
        pytest.skip("PostgreSQL's disk is its operator's; test_an_interrupted_batch_leaves_nothing stands for it")
    store = store_of(database)
    await store.commit(numbered(1))
    await run(database, "PRAGMA max_page_count = 1")  # SQLite takes the present size where that is more

    with pytest.raises(StoreUnavailable):
        await store.commit(numbered(2000, 1))
    assert await positions(database) == [1]
    assert await tallies(database) == {"stored": 1}

    await run(database, "PRAGMA max_page_count = 1000000")
    assert set((await store.commit(numbered(2000, 1))).outcomes) == {Outcome.STORED}
    assert await positions(database) == list(range(1, 2002))


@contextmanager
def no_room(file: Path) -> Iterator[None]:
    """The database's write-ahead log cannot grow inside the block."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.with_name(f"{file.name}-wal").stat().st_size + 100, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_commit_that_finds_no_room_leaves_nothing_and_passes(url: str, database: Database) -> None:
    """Where it is SQLite's COMMIT itself that fails, nothing is told as stored, and the same store goes on later."""
    if database.dialect != "sqlite":
        pytest.skip("test_an_interrupted_batch_leaves_nothing stands for it")
    store = store_of(database)
    await store.commit(numbered(1))
    with no_room(Path(url.removeprefix("sqlite:///"))):
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                await store.commit(numbered(5, 1))

    assert list((await store.commit(numbered(5, 1))).outcomes) == [Outcome.STORED] * 5
    assert await positions(database) == [1, 2, 3, 4, 5, 6]
    assert await tallies(database) == {"stored": 6}


@pytest.fixture(params=["here", "apart"])
async def broken_line(
    request: pytest.FixtureRequest, postgres_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Line]:
    """PostgreSQL through a proxy that can break the line, and directly: (proxy, through it, direct)."""
    direct = open_database(postgres_url)
    async with proxied(postgres_url, tmp_path_factory.mktemp("p")) as (proxy, through):
        database = open_database(through, write_apart=request.param == "apart")
        yield proxy, database, direct
        await database.close()
    await direct.close()


@pytest.mark.parametrize("statement", [b"BEGIN", b"INSERT INTO events", b"INSERT INTO tallies"])
async def test_an_interrupted_batch_is_written_on_another_connection(statement: bytes, broken_line: Line) -> None:
    """A connection cut at any statement before the COMMIT is sent costs nobody anything."""
    proxy, database, direct = broken_line
    await store_of(direct).commit(numbered(1, 100))
    proxy.cut_before(statement)  # on a connection that has not prepared it yet, so that its text is sent

    assert list((await store_of(database).commit(numbered(3))).outcomes) == [Outcome.STORED] * 3
    assert proxy.cuts == 1
    assert await positions(direct) == [1, 2, 3, 4]
    assert await tallies(direct) == {"stored": 4}


async def test_a_batch_whose_commit_was_cut_leaves_nothing(broken_line: Line) -> None:
    """A connection cut before the COMMIT arrives is StoreUnavailable; the next batch goes through."""
    proxy, database, direct = broken_line
    store = store_of(database)
    await store_of(direct).commit(numbered(1, 100))
    proxy.cut_before(b"COMMIT;")

    with pytest.raises(StoreUnavailable):
        await store.commit(numbered(3))
    assert proxy.cuts == 1
    assert await positions(direct) == [1]
    assert await tallies(direct) == {"stored": 1}

    assert list((await store.commit(numbered(3))).outcomes) == [Outcome.STORED] * 3
    assert await positions(direct) == [1, 2, 3, 4]


async def test_a_commit_whose_answer_was_lost_is_looked_up(broken_line: Line) -> None:
    """Where the COMMIT was carried out and its answer lost, the batch is told as stored, once, with its positions."""
    proxy, database, direct = broken_line
    store = store_of(database)
    await store.commit(numbered(1, 100))
    proxy.swallow_answer_to(b"COMMIT;")

    commit = await store.commit(numbered(3))

    assert proxy.cuts == 1
    assert list(commit.outcomes) == [Outcome.STORED] * 3
    assert [event.position for event in commit.events()] == [2, 3, 4]
    assert await tallies(direct) == {"stored": 4}
    assert await positions(direct) == [1, 2, 3, 4]


async def test_a_write_whose_answer_was_lost_says_that_it_may_have_happened(broken_line: Line) -> None:
    """It raises no mere StoreUnavailable, and has what the work returned; it did happen here."""
    proxy, database, direct = broken_line
    proxy.swallow_answer_to(b"COMMIT;")

    with pytest.raises(CommitUnanswered) as lost:
        await database.write(move_head, 7)

    assert lost.value.result == 1
    assert await rows(direct, "SELECT position FROM head") == [(7,)]


async def test_a_commit_that_was_lost_is_not_taken_for_a_later_one(broken_line: Line, postgres_url: str) -> None:
    """While one batch looks up whether it is there, the next may commit: what was lost is not told as stored."""
    proxy, database, direct = broken_line
    store = store_of(database)
    proxy.cut_before(b"COMMIT;")
    holding = await asyncpg.connect(postgres_url)
    async with holding.transaction(), asyncio.timeout(5):
        await holding.execute("SELECT * FROM head FOR UPDATE")
        both = [asyncio.create_task(store.commit(numbered(1, number))) for number in range(2)]
        while len(await rows(direct, _WAITS)) < 2:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.01)
    await holding.close()
    answers = await asyncio.gather(*both, return_exceptions=True)

    assert proxy.cuts == 1
    assert sum(isinstance(answer, StoreUnavailable) for answer in answers) == 1, answers
    assert await positions(direct) == [1]


async def test_dead_connections_in_the_pool_cost_no_batch(broken_line: Line) -> None:
    """When the server has closed every connection, the store goes on with new ones."""
    _, database, direct = broken_line
    store = store_of(database)
    await asyncio.gather(*(database.read(lambda connection: None) for _ in range(4)), store.commit(numbered(1)))
    await rows(direct, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
               "AND datname = current_database() AND backend_type = 'client backend'")  # fmt: skip

    assert list((await store.commit(numbered(1, 1))).outcomes) == [Outcome.STORED]


async def test_slow_readers_do_not_keep_the_ingestion_out(database: Database) -> None:
    """However many reads are under way, a commit finds a connection."""
    if database.dialect == "sqlite":
        pytest.skip("SQLite writes on a connection and a thread of its own")
    asleep = asyncio.Semaphore(0)

    def sleep(connection: Connection) -> None:
        asleep.release()
        connection.execute(text("SELECT pg_sleep(3)"))

    slow = [asyncio.create_task(database.read(sleep)) for _ in range(20)]
    for _ in range(10):  # the other ten wait for a connection
        await asleep.acquire()

    async with asyncio.timeout(2):
        await store_of(database).commit(numbered(1))

    for task in slow:
        task.cancel()
    await asyncio.gather(*slow, return_exceptions=True)
