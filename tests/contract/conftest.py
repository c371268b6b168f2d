"""Every contract test runs on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from storage.engine import Database, open_database
from storage.migrate import migrate
from tests.support.postgres import fresh_database


@pytest.fixture(scope="session")
def postgres_template() -> str:
    """A database at the newest schema, to be copied: quicker than to migrate each."""
    url = fresh_database()
    asyncio.run(_migrated(url))
    return url


@pytest.fixture
def postgres_url(postgres_template: str) -> str:
    """A PostgreSQL database at the newest schema, with nothing in it."""
    return fresh_database(postgres_template)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database with nothing in it."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/test.db"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    """A database at the newest schema."""
    database = open_database(url)
    await migrate(database)
    yield database
    await database.close()


@pytest.fixture
async def another(url: str, database: Database) -> AsyncIterator[Database]:
    """The same database as another process has it."""
    another = open_database(url)
    yield another
    await another.close()


async def _migrated(url: str) -> None:
    database = open_database(url)
    await migrate(database)
    await database.close()
