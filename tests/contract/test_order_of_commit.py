"""Several processes commit to one PostgreSQL: positions are in the order of commit, and an event is stored once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import ParamSpec, TypeVar

import pytest
from sqlalchemy import Connection

from ingest.event import Outcome
from storage import bulk
from storage.database import Database, Work
from storage.engine import open_database
from storage.feed import SqlFeed
from storage.store import SqlStore
from tests.support.fresh import DEBIAN, POSTGRES
from tests.support.records import NOW, numbered
from tests.support.stored import positions, tallies

STORES = (POSTGRES, DEBIAN)
P = ParamSpec("P")
T = TypeVar("T")
COMMITTERS, COMMITS = 4, 40


class SlowToCommit:
    """A database whose transactions rest up to ten milliseconds before their COMMIT."""

    def __init__(self, database: Database) -> None:
        self.dialect = database.dialect
        self._database = database

    async def write(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See Database."""

        def resting(connection: Connection) -> T:
            result = work(connection, *args, **kwargs)
            bulk.run(connection, f"SELECT pg_sleep({random.uniform(0, 0.01)})")
            return result

        return await self._database.write(resting)

    async def read(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See Database."""
        return await self._database.read(work, *args, **kwargs)

    async def alter(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See Database."""
        return await self._database.alter(work, *args, **kwargs)

    async def close(self) -> None:
        """See Database."""
        await self._database.close()


@pytest.fixture
async def replicas(postgres_url: str) -> AsyncIterator[list[Database]]:
    """The same database as several processes have it, slow to commit."""
    async with AsyncExitStack() as stack:
        opened: list[Database] = [SlowToCommit(open_database(postgres_url)) for _ in range(COMMITTERS)]
        for database in opened:
            stack.push_async_callback(database.close)
        yield opened


async def test_no_reader_skips_a_position(replicas: list[Database]) -> None:
    """However long a transaction rests before its COMMIT, whoever reads behind the last position misses none."""
    total = COMMITTERS * COMMITS * 3

    async def commit(database: Database, start: int) -> None:
        store = SqlStore(database, lambda: NOW)
        for number in range(start, start + COMMITS * 3, 3):
            outcomes = (await store.commit(numbered(3, number))).outcomes
            assert set(outcomes) == {Outcome.STORED}

    async def read(database: Database) -> list[int]:
        feed, seen = SqlFeed(database), [0]
        while seen[-1] < total:
            seen += [event.position or 0 for event in await feed.read(seen[-1], 100)]
        return seen[1:]

    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        readers = [tasks.create_task(read(database)) for database in replicas[:2]]
        for number, database in enumerate(replicas):
            tasks.create_task(commit(database, number * 100_000))

    for reader in readers:
        assert reader.result() == list(range(1, total + 1))


async def test_the_same_event_at_one_instant_is_one_row(postgres_url: str) -> None:
    """Ten thousand copies to all processes at once: one is stored, each other is a duplicate, none is refused."""
    async with AsyncExitStack() as stack:
        databases = [open_database(postgres_url) for _ in range(COMMITTERS)]
        for database in databases:
            stack.push_async_callback(database.close)

        async def commit(database: Database) -> list[Outcome]:
            store = SqlStore(database, lambda: NOW)
            return [outcome for _ in range(10) for outcome in (await store.commit(numbered(10) * 25)).outcomes]

        told = await asyncio.gather(*(commit(database) for database in databases))

        outcomes = [outcome for outcomes in told for outcome in outcomes]
        assert (len(outcomes), outcomes.count(Outcome.STORED)) == (10_000, 10)
        assert set(outcomes) == {Outcome.STORED, Outcome.REDELIVERY}
        assert await positions(databases[0]) == list(range(1, 11))
        assert await tallies(databases[0]) == {"stored": 10, "redelivery": 9_990}
