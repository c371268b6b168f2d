"""Brings a database to the newest schema. SQLite is copied first, so that a way back stays."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from contextlib import closing
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, func, inspect, select
from sqlalchemy.exc import DBAPIError

from ingest.errors import ConfigurationError, HeadraceError, StoreUnavailable
from storage import bulk
from storage.database import sqlstate_of
from storage.engine import Database
from storage.private_files import make_private
from storage.transactions import transaction
from storage.version_table import current_revision, take_over

_LOOKS = 50
_LOOK_PAUSE_SECONDS = 0.1
_MIGRATION_LOCK = 0x4865_6164_7261_6365  # "Headrace"
_INDEX_PROGRESS = """
SELECT CASE WHEN index_relid > 0 THEN index_relid::regclass::text END, relid::regclass::text,
       CASE WHEN tuples_total > 0 THEN tuples_done ELSE blocks_done END,
       CASE WHEN tuples_total > 0 THEN tuples_total ELSE blocks_total END
FROM pg_stat_progress_create_index WHERE datname = current_database()
"""


# As SQLite and PostgreSQL say it.
_THERE_ALREADY = re.compile(
    r'(?P<kind>table|view|index|relation|type) "?(?P<name>[^" ]+)"? already exists'
    r"|there is already an? (?P<kind_2>table|view|index) named (?P<name_2>\S+)"
)


_QUOTED = re.compile(r'["“„»«]([^"“”„»«]+)')  # what PostgreSQL says in other languages
_DUPLICATE = ("42P07", "42710")


class SchemaBehind(HeadraceError):
    """The database is not at the newest schema, and it is not ours to change it now."""


def migrations_folder() -> Path:
    """Return where the migrations are: inside the installed package, or at the top of a checkout."""
    installed = Path(__file__).parent / "migrations"
    return installed if installed.is_dir() else Path(__file__).parent.parent / "alembic"


async def migrate(database: Database) -> tuple[str | None, str]:
    """Bring the schema to the newest revision; return the revision before (None: empty) and after.

    Raises ConfigurationError where a table of one of our names is somebody else's; then nothing was changed.
    """
    before = await _first_look(database)
    newest = newest_revision()
    if before is not None and before not in _known_revisions():
        raise SchemaBehind(f"the database is at schema {before}, which a newer version made: install that version")
    if before is not None and before != newest:
        await database.write(_copy_sqlite, f"before-{newest}")
    await database.alter(_upgrade)
    return before, newest


async def index_progress(database: Database) -> str | None:
    """Return which index PostgreSQL is building, and how far it is; None where it builds none, or is SQLite."""
    return await database.read(_index_progress) if database.dialect == "postgresql" else None


async def require_newest(database: Database) -> None:
    """Raise SchemaBehind unless the database is at the newest schema."""
    if (found := await revision(database)) != newest_revision():
        raise SchemaBehind(
            f"the database is at schema {found or 'none'} and this version needs {newest_revision()}: "
            "run `headrace migrate`"
        )


async def revision(database: Database) -> str | None:
    """Return the schema revision a database is at; None where there is none yet.

    Raises ConfigurationError where it cannot keep every name: it is not UTF-8.
    """
    return await database.read(_revision)


def _revision(connection: Connection) -> str | None:
    if connection.dialect.name == "postgresql":
        encoding = bulk.run(connection, "SHOW server_encoding")[0][0]
        if encoding != "UTF8":
            raise ConfigurationError(
                f"store.url: expected a database in UTF8, not {encoding}: "
                "make one with CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0"
            )
    return current_revision(connection, _known_revisions())


async def _first_look(database: Database) -> str | None:
    """Return the revision, asked again while another process turns a new SQLite file to WAL.

    There nobody waits by itself.
    """
    for _ in range(_LOOKS):
        try:
            return await revision(database)
        except StoreUnavailable as error:
            if database.dialect != "sqlite" or "locked" not in str(error):
                raise
            await asyncio.sleep(_LOOK_PAUSE_SECONDS)
    return await revision(database)


def newest_revision() -> str:
    """Return the newest revision this version knows."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None, "the migrations are missing from the installation"  # noqa: S101 - a broken package
    return head


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    return config


def _known_revisions() -> set[str]:
    return {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}


@transaction
def _upgrade(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":  # replicas that are rolled out together migrate at the same time
        connection.execute(select(func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
    take_over(connection, _known_revisions())
    config = _config()
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except DBAPIError as error:
        if (name := _foreign_name(error)) is None:
            raise
        raise ConfigurationError(
            f"store.url: the database has {name} that is not Headrace's: rename it, or give Headrace a database, or on "
            "PostgreSQL a schema, of its own. Nothing was changed."
        ) from error


def _foreign_name(error: DBAPIError) -> str | None:
    """Return which table or index a migration found that it was about to make; None for any other error."""
    found = _THERE_ALREADY.search(str(error.orig))
    if found is not None:
        return f"{found['kind'] or found['kind_2']} {found['name'] or found['name_2']}"
    named = _QUOTED.search(str(error.orig)) if sqlstate_of(error) in _DUPLICATE else None
    return None if named is None else f"something named {named[1]}"


def _index_progress(connection: Connection) -> str | None:
    found = bulk.run(connection, _INDEX_PROGRESS)
    if not found:
        return None
    index, table, done, total = found[0]
    return f"building {index or 'an index'} on {table}" + (f", {done * 100 // total} %" if total else "")


@transaction
def _copy_sqlite(connection: Connection, suffix: str) -> None:
    path = connection.engine.url.database
    if connection.dialect.name != "sqlite" or not path or not inspect(connection).get_table_names():
        return
    make_private(f"{path}.{suffix}")
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(f"{path}.{suffix}")) as copy:
        source.backup(copy)
