"""`headrace migrate` says that it goes on, and on PostgreSQL how far an index is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from app.cli.upkeep import migrate_telling
from storage.database import Database
from storage.engine import open_database
from storage.migrate import index_progress, newest_revision
from tests.support.postgres import fresh_database, session_server

SLOW = """
CREATE TABLE many AS SELECT generate_series(1, 2000) AS n;
CREATE FUNCTION slowly(n int) RETURNS int IMMUTABLE LANGUAGE plpgsql
    AS $$ BEGIN PERFORM pg_sleep(0.01); RETURN n; END $$;
"""
MIGRATIONS_OF_OURS = 0x4865_6164_7261_6365  # the lock that keeps two migrations apart


@pytest.fixture
async def other() -> AsyncIterator[tuple[Database, asyncpg.Connection]]:
    """An empty database, and another connection to it."""
    url = fresh_database()
    database, connection = open_database(url), await asyncpg.connect(url)
    yield database, connection
    await connection.close()
    await database.close()
    session_server().drop_database(url)


async def test_a_migration_that_takes_long_is_told_of(other: tuple[Database, asyncpg.Connection]) -> None:
    """As long as it waits for another one, a line comes now and then; one that is quick says nothing."""
    database, connection = other
    told: list[str] = []
    twice = asyncio.Event()

    def tell(line: str) -> None:
        told.append(line)
        if len(told) == 2:
            twice.set()

    await connection.execute(f"SELECT pg_advisory_lock({MIGRATIONS_OF_OURS})")
    migrating = asyncio.create_task(migrate_telling(database, tell, every_seconds=0.05))
    await asyncio.wait_for(twice.wait(), 60)
    await connection.execute(f"SELECT pg_advisory_unlock({MIGRATIONS_OF_OURS})")
    assert await migrating == (None, newest_revision())
    assert all(" s so far" in line for line in told)
    told.clear()
    assert await migrate_telling(database, tell) == (newest_revision(), newest_revision())
    assert told == []


async def test_an_index_shows_how_far_it_is(other: tuple[Database, asyncpg.Connection]) -> None:
    """Its name and table, and the share that is done; nothing where none is built."""
    database, connection = other
    await connection.execute(SLOW)
    assert await index_progress(database) is None
    building = asyncio.create_task(connection.execute("CREATE INDEX slow ON many (slowly(n))"))
    async with asyncio.timeout(60):
        while (shown := await index_progress(database)) is None or "%" not in shown:
            assert not building.done()
    assert "on many, " in shown
    building.cancel()
    await asyncio.gather(building, return_exceptions=True)
