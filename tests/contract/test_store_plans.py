"""How PostgreSQL goes about a commit: what it costs must not grow with what is stored."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import ParamSpec, TypeVar

import pytest
from sqlalchemy import Connection, text

from storage.database import Database, Work
from storage.engine import open_database
from storage.store import SqlStore
from tests.support.fresh import ALL
from tests.support.records import NOW, numbered

STORES = ALL
P = ParamSpec("P")
T = TypeVar("T")

_SCANS = text("SELECT seq_scan FROM pg_stat_xact_user_tables WHERE relname = 'events'")


class CountingScans:
    """A database that notes how many sequential scans of the events each transaction has made."""

    def __init__(self, database: Database) -> None:
        self.scans: list[int] = []
        self.dialect = database.dialect
        self._database = database

    async def write(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See Database."""

        def counted(connection: Connection) -> T:
            result = work(connection, *args, **kwargs)
            self.scans.append(connection.execute(_SCANS).scalar_one())
            return result

        return await self._database.write(counted)

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
async def counting(postgres_url: str) -> AsyncIterator[CountingScans]:
    """PostgreSQL at the newest schema, empty and never analysed."""
    database = CountingScans(open_database(postgres_url))
    yield database
    await database.close()


async def test_a_store_that_was_empty_when_its_plans_were_made_looks_ids_up_by_the_index(
    counting: CountingScans,
) -> None:
    """A plan is kept with its connection: a sequential scan that suits an empty table would stay as it fills."""
    store = SqlStore(counting, lambda: NOW)
    for start in range(0, 200, 10):
        await store.commit(numbered(10, start))

    assert counting.scans == [0] * 20
