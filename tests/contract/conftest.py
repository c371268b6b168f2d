"""Every contract test runs on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from storage.engine import Database, open_database
from storage.migrate import migrate
from tests.support.fresh import BOTH, SQLITE, fresh_store


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test on each of the STORES that its module names; BOTH where it names none."""
    stores = getattr(metafunc.module, "STORES", BOTH)
    if "url" in metafunc.fixturenames:
        metafunc.parametrize("url", stores, indirect=True)
    if "postgres_url" in metafunc.fixturenames:
        metafunc.parametrize("postgres_url", [store for store in stores if store != SQLITE], indirect=True)


@pytest.fixture
def postgres_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A PostgreSQL database at the newest schema, with nothing in it."""
    return fresh_store(request.param, tmp_path)


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database with nothing in it."""
    return fresh_store(request.param, tmp_path)


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
