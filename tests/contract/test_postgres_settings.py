"""What a server, a database or a role has as default does not change what Headrace promises on PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import Connection, text

from ingest.errors import StoreUnavailable
from storage import postgres
from storage.engine import Database, open_database
from tests.support.fresh import ALL
from tests.support.postgres import database_name
from tests.support.stored import run

STORES = ALL


@pytest.fixture
async def operator(postgres_url: str) -> AsyncIterator[Database]:
    """The database as its operator has it."""
    database = open_database(postgres_url)
    yield database
    await database.close()


@pytest.fixture
async def database(postgres_url: str, operator: Database) -> AsyncIterator[Database]:
    """The database as Headrace has it; it connects when it is first used, after `by_default`."""
    database = open_database(postgres_url)
    yield database
    await database.close()


async def by_default(operator: Database, postgres_url: str, **settings: str) -> None:
    """Give the database defaults, for every connection from now on."""
    for name, value in settings.items():
        await run(operator, f"ALTER DATABASE {database_name(postgres_url)} SET {name} = '{value}'")


def take_long(connection: Connection) -> None:
    """Do something for half a second."""
    connection.execute(text("SELECT pg_sleep(0.5)"))


async def test_a_change_of_the_schema_takes_as_long_as_it_takes(
    operator: Database, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No limit of ours or of the server's ends a migration; everything else is ended."""
    await by_default(operator, postgres_url, statement_timeout="100ms", lock_timeout="100ms")
    monkeypatch.setattr(postgres, "_COMMAND_SECONDS", 0.2)
    database = open_database(postgres_url)
    with pytest.raises(StoreUnavailable):
        await database.write(take_long)

    await database.alter(take_long)
    await database.close()
