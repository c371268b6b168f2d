"""A database that is shared with another application, which may use Alembic too."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, inspect

from ingest.errors import ConfigurationError
from storage.engine import Database, open_database
from storage.migrate import migrate, newest_revision, require_newest, revision
from storage.store import SqlStore
from storage.version_table import VERSION_TABLE
from tests.support.fresh import BOTH, bare_store
from tests.support.records import NOW, numbered
from tests.support.stored import positions, rows, run

STORES = BOTH
NEWEST = newest_revision()


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database without any schema."""
    return bare_store(request.param, tmp_path)


@pytest.fixture
async def shared(url: str) -> AsyncIterator[Database]:
    """A database without any schema of ours."""
    database = open_database(url)
    yield database
    await database.close()


def names(connection: Connection) -> set[str]:
    """All tables."""
    return set(inspect(connection).get_table_names())


async def another_applications(database: Database, *versions: str) -> None:
    """Alembic's own table, as another application left it."""
    await run(database, "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
    for version in versions:
        await run(database, f"INSERT INTO alembic_version VALUES ('{version}')")  # noqa: S608 - a constant


@pytest.mark.parametrize("versions", [(), ("3f2a9c",), (NEWEST,), ("0001",), ("3f2a9c", "0001")], ids=len)
async def test_another_applications_versions_are_left_alone(shared: Database, versions: tuple[str, ...]) -> None:
    """Whatever is in its table, ours are made, and its row stays as it was."""
    await another_applications(shared, *versions)
    assert await revision(shared) is None

    assert await migrate(shared) == (None, NEWEST)

    await require_newest(shared)
    assert await SqlStore(shared, lambda: NOW).commit(numbered(1))
    found = {version for (version,) in await rows(shared, "SELECT version_num FROM alembic_version")}
    assert found == set(versions)
    assert await migrate(shared) == (NEWEST, NEWEST)


async def test_our_former_table_is_taken_over(shared: Database) -> None:
    """A store of an earlier version goes on from where it is; afterwards there is no alembic_version any more."""
    await migrate(shared)
    await SqlStore(shared, lambda: NOW).commit(numbered(3))
    await run(shared, f"ALTER TABLE {VERSION_TABLE} RENAME TO alembic_version")
    assert await revision(shared) == NEWEST
    await require_newest(shared)

    assert await migrate(shared) == (NEWEST, NEWEST)

    assert await positions(shared) == [1, 2, 3]
    found = await shared.read(names)
    assert (VERSION_TABLE in found, "alembic_version" in found) == (True, False)


@pytest.mark.parametrize("taken", ["events", "head", "gaps", "skipped", "ix_sightings_position"])
async def test_a_foreign_table_of_one_of_our_names_is_refused(shared: Database, taken: str) -> None:
    """Its name is told, and what to do; nothing was made, and nothing of it changed."""
    await run(shared, f"CREATE TABLE {taken} (mine INTEGER)")
    await run(shared, f"INSERT INTO {taken} VALUES (7)")  # noqa: S608 - a constant

    with pytest.raises(ConfigurationError, match=rf"^store\.url: the database has \w+ {taken} that is not Headrace's"):
        await migrate(shared)

    assert await shared.read(names) == {taken}
    assert await rows(shared, f"SELECT mine FROM {taken}") == [(7,)]  # noqa: S608 - a constant


async def test_a_foreign_view_of_one_of_our_names_is_refused(shared: Database) -> None:
    """A view is no table, and is in the way as one."""
    await run(shared, "CREATE VIEW events AS SELECT 7 AS mine")

    with pytest.raises(ConfigurationError, match="events that is not Headrace's"):
        await migrate(shared)

    assert await rows(shared, "SELECT mine FROM events") == [(7,)]
