"""A pooler that gives each transaction to another connection, and forgets prepared statements: Headrace works on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from ingest.event import Outcome
from storage.engine import Database, open_database
from storage.feed import SqlFeed
from storage.migrate import migrate, require_newest
from storage.store import SqlStore
from tests.support.fresh import POSTGRES, bare_store
from tests.support.pooler import pooled
from tests.support.postgres import session_server
from tests.support.records import NOW, numbered


@pytest.fixture
def pooled_url(tmp_path: Path) -> Iterator[str]:
    """An empty database behind a pgbouncer that keeps no prepared statement."""
    with pooled(session_server(), bare_store(POSTGRES, tmp_path), connections=3) as url:
        yield url


@pytest.fixture
async def two(pooled_url: str) -> AsyncIterator[list[Database]]:
    """Two processes' connections through the pooler, to the newest schema."""
    two = [open_database(pooled_url) for _ in range(2)]
    await migrate(two[0])
    yield two
    for database in two:
        await database.close()


async def test_two_servers_work_behind_it(two: list[Database]) -> None:
    """Commits and reads of two processes, all at once on a few connections, succeed."""
    stores = [SqlStore(database, lambda: NOW) for database in two]
    commits = [stores[number % 2].commit(numbered(2, 2 * number)) for number in range(40)]
    reads = [SqlFeed(database).read(0, 100) for database in two * 10]

    answers, _ = await asyncio.gather(asyncio.gather(*commits), asyncio.gather(*reads))

    assert [list(commit.outcomes) for commit in answers] == [[Outcome.STORED] * 2] * 40
    assert [event.position for event in await SqlFeed(two[0]).read(0, 100)] == list(range(1, 81))


async def test_each_command_works_behind_it(two: list[Database], pooled_url: str) -> None:
    """Commands, each with connections of its own, one after another, all find what they ask for."""
    await SqlStore(two[0], lambda: NOW).commit(numbered(3))
    for _ in range(6):
        database = open_database(pooled_url)
        await require_newest(database)
        assert len(await SqlFeed(database).read(0, 100)) == 3
        await database.close()
