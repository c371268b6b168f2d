"""The migrations make exactly the schema of storage.tables, from any older schema, and leave a way back."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import warnings
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, inspect

from ingest.errors import StoreFault, StoreUnavailable
from ingest.event import Outcome
from storage import bulk
from storage import migrate as module
from storage.engine import Database, open_database
from storage.migrate import SchemaBehind, migrate, newest_revision, require_newest, revision
from storage.store import SqlStore
from storage.tables import schema_of
from storage.version_table import VERSION_TABLE
from tests.support.fresh import ALL, bare_store
from tests.support.later_version import LATER, have_later_version
from tests.support.records import NOW, numbered
from tests.support.stored import positions, rows, run

STORES = ALL
NEWEST = newest_revision()


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database without any schema."""
    return bare_store(request.param, tmp_path)


@pytest.fixture
async def empty(url: str) -> AsyncIterator[Database]:
    """A database without any schema."""
    database = open_database(url)
    yield database
    await database.close()


PARTITION = re.compile("events_(p|kept_)[0-9]+")


_SOME_EVENTS = """
INSERT INTO events (position, id, product, device, name, data, received_at, source, mode, attributes)
SELECT number, md5(number::text)::uuid, 'tracker', 'dev1', 'temperature', '\\x00ff', number, 'fleet', 'webhook', '{}'
FROM generate_series(1999001, 1999300) AS number
"""


def differences(connection: Connection) -> list[Any]:
    """What the migrated schema and the tables do not agree on."""
    options = {
        "compare_type": True,
        "compare_server_default": True,
        "include_name": lambda name, type_, _: type_ != "table" or PARTITION.fullmatch(name or "") is None,
        "version_table": VERSION_TABLE,
    }
    with warnings.catch_warnings():  # on SQLite an index of an expression is not reflected; `indexes` compares its text
        warnings.filterwarnings("ignore", ".*expression-based index .?ix_events_block_device")
        return list(
            compare_metadata(MigrationContext.configure(connection, opts=options), schema_of(connection.dialect.name))
        )


def indexes(connection: Connection) -> set[str]:
    """The statements that make the indexes of a SQLite database, expressions included."""
    found = connection.exec_driver_sql("SELECT sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL")
    return {" ".join(sql.replace("(position >> 12)", "position >> 12").split()) for (sql,) in found}


def tables_of(connection: Connection) -> set[str]:
    """The names of our tables, without partitions."""
    names = inspect(connection).get_table_names()
    return {name for name in names if not PARTITION.fullmatch(name)} - {VERSION_TABLE}


def primary_keys(connection: Connection) -> dict[str, list[str]]:
    """The primary key of each table, which compare_metadata does not look at."""
    return {name: inspect(connection).get_pk_constraint(name)["constrained_columns"] for name in tables_of(connection)}


def copies_in(folder: Path) -> list[Path]:
    """The copies that were made before a change."""
    return list(folder.glob("*.before-*"))


def downgrade(connection: Connection) -> None:
    """Back to nothing."""
    config = module._config()
    config.attributes["connection"] = connection
    command.downgrade(config, "base")


def downgrade_to(connection: Connection, wanted: str) -> None:
    """Back to a schema."""
    config = module._config()
    config.attributes["connection"] = connection
    command.downgrade(config, wanted)


def upgrade_to(connection: Connection, wanted: str) -> None:
    """Up to a schema."""
    config = module._config()
    config.attributes["connection"] = connection
    command.upgrade(config, wanted)


@pytest.fixture
async def postgres_bare(postgres_url: str) -> AsyncIterator[Database]:
    """PostgreSQL without any schema."""
    database = open_database(postgres_url)
    await database.alter(downgrade)
    yield database
    await database.close()


async def test_the_migrations_make_the_tables(empty: Database) -> None:
    """The schema the migrations make is the one the statements are written for: columns, types, indexes, keys."""
    assert await migrate(empty) == (None, newest_revision())

    assert await empty.read(differences) == []
    assert await empty.read(primary_keys) == {
        table.name: [column.name for column in table.primary_key] for table in schema_of(empty.dialect).sorted_tables
    }
    assert await SqlStore(empty, lambda: NOW).commit(numbered(1))


async def test_indexes_of_expressions_are_the_tables_too(tmp_path: Path) -> None:
    """What the comparison above cannot see on SQLite."""
    migrated, made = (open_database(f"sqlite:///{tmp_path}/{name}.db") for name in ("migrated", "made"))
    await migrate(migrated)
    await made.write(schema_of("sqlite").create_all)

    found = await migrated.read(indexes)
    assert found == await made.read(indexes)
    assert any("position >> 12" in sql for sql in found)
    for database in (migrated, made):
        await database.close()


async def test_a_difference_would_be_seen(empty: Database) -> None:
    """The comparison is worth something: a column, an index or a type that is not ours is found."""
    await migrate(empty)
    await run(empty, "DROP INDEX ix_sightings_position")
    await run(empty, "ALTER TABLE rejects ADD COLUMN more INTEGER")

    found = [difference[0] for difference in await empty.read(differences)]
    assert sorted(found) == ["add_index", "remove_column"]


async def test_down_and_up_again(empty: Database) -> None:
    """The way down leaves nothing of ours, and the way up works again from there."""
    await migrate(empty)
    await empty.write(downgrade)
    assert await empty.read(tables_of) == set()

    await migrate(empty)
    assert await empty.read(differences) == []


async def test_migrating_twice_changes_nothing(empty: Database, tmp_path: Path) -> None:
    """At the newest schema nothing happens: no copy, no loss."""
    await migrate(empty)
    await SqlStore(empty, lambda: NOW).commit(numbered(3))

    assert await migrate(empty) == (newest_revision(), newest_revision())
    assert await positions(empty) == [1, 2, 3]
    assert copies_in(tmp_path) == []


async def test_processes_that_start_together_migrate_once(url: str, empty: Database) -> None:
    """Replicas that are rolled out at the same time all find the newest schema."""
    others = [open_database(url) for _ in range(3)]

    await asyncio.gather(*(migrate(database) for database in (empty, *others)))

    assert await empty.read(differences) == []
    for database in others:
        await database.close()


async def test_a_file_that_another_process_is_making_is_waited_for(tmp_path: Path) -> None:
    """SQLite turns a new file to WAL for one process at a time and lets nobody wait: the others ask again."""
    path = tmp_path / "new.db"
    database = open_database(f"sqlite:///{path}")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        migrating = asyncio.create_task(migrate(database))
        done, _ = await asyncio.wait([migrating], timeout=0.3)
        other.execute("COMMIT")

    assert not done
    assert await migrating == (None, NEWEST)
    await database.close()


async def test_sqlite_is_copied_before_a_change(
    empty: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before its schema changes a SQLite database is copied whole; the copy is a way back with the old version."""
    have_later_version(tmp_path, monkeypatch)
    await empty.write(upgrade_to, NEWEST)
    await SqlStore(empty, lambda: NOW).commit(numbered(3))

    assert await migrate(empty) == (NEWEST, LATER)

    assert "later" in await empty.read(tables_of)
    assert await positions(empty) == [1, 2, 3]
    copies = copies_in(tmp_path)
    if empty.dialect == "postgresql":
        assert copies == []
        return
    with closing(sqlite3.connect(copies[0])) as copy:
        assert copy.execute("SELECT count(*) FROM events").fetchone() == (3,)
        assert copy.execute("SELECT version_num FROM headrace_version").fetchone() == (NEWEST,)
        assert copy.execute("SELECT name FROM sqlite_master WHERE name = 'later'").fetchone() is None


async def test_an_older_schema_is_refused_where_it_is_not_ours_to_change(empty: Database) -> None:
    """Without a schema, `require_newest` says which command to run; after it, nothing."""
    with pytest.raises(SchemaBehind, match="headrace migrate"):
        await require_newest(empty)
    await migrate(empty)
    await require_newest(empty)


async def test_a_newer_schema_is_left_alone(empty: Database, tmp_path: Path) -> None:
    """A database of a later version is neither changed nor copied, and the message says what to do."""
    await migrate(empty)
    await run(empty, "UPDATE headrace_version SET version_num = '9999'")

    with pytest.raises(SchemaBehind, match="newer version"):
        await migrate(empty)
    assert await revision(empty) == "9999"
    assert copies_in(tmp_path) == []


async def test_events_come_through_partitions_and_back(postgres_bare: Database) -> None:
    """A database of the schema before keeps every event, up and down and up again, and each is known by its id."""
    database = postgres_bare
    await database.alter(upgrade_to, "0006")
    await run(database, _SOME_EVENTS)
    await run(database, "UPDATE head SET position = 2000000")

    await migrate(database)

    assert len(await positions(database)) == 300
    commit = await SqlStore(database, lambda: NOW).commit(numbered(3))
    assert [event.position for event in commit.events()] == [2_000_001, 2_000_002, 2_000_003]
    assert await rows(database, "SELECT position FROM ids ORDER BY position") == [
        (position,) for position in await positions(database)
    ]
    everything = await rows(database, "SELECT * FROM events ORDER BY position")

    await database.alter(downgrade_to, "0006")
    assert await rows(database, "SELECT * FROM events ORDER BY position") == everything
    await migrate(database)
    assert await rows(database, "SELECT * FROM events ORDER BY position") == everything
    assert await database.read(differences) == []
    again = await SqlStore(database, lambda: NOW).commit(numbered(3))
    assert list(again.outcomes) == [Outcome.REDELIVERY] * 3


async def test_a_server_of_the_version_before_commits_nothing_more(postgres_bare: Database) -> None:
    """Its batches fail as in an outage, so that its senders hear 503 and turn to a new one; nothing of them is left."""
    await migrate(postgres_bare)

    def as_before(connection: Connection) -> None:
        bulk.run(connection, "INSERT INTO tallies VALUES ('fleet', 'webhook', 1, 'stored', 1)")
        bulk.run(connection, "INSERT INTO writers (writer, batch, committed_at) SELECT 'old', 1, 1")

    with pytest.raises(StoreUnavailable) as refused:
        await postgres_bare.write(as_before)
    assert not isinstance(refused.value, StoreFault)
    assert await rows(postgres_bare, "SELECT * FROM tallies") == []
