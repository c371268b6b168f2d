"""A database that is put back to an older state of itself under whoever works on it, as a restored copy does."""

from __future__ import annotations

from sqlalchemy import Connection, text

from storage.engine import Database
from storage.tables import schema_of


async def take_copy(database: Database) -> None:
    """Remember all that the database holds."""
    await database.write(_copy)


async def put_back(database: Database) -> None:
    """Bring back what was remembered, and nothing else."""
    await database.write(_put_back)


def _copy(connection: Connection) -> None:
    for name in schema_of(connection.dialect.name).tables:
        connection.execute(text(f"CREATE TABLE copy_of_{name} AS SELECT * FROM {name}"))  # noqa: S608 - names


def _put_back(connection: Connection) -> None:
    for name in schema_of(connection.dialect.name).tables:
        connection.execute(text(f"DELETE FROM {name}"))  # noqa: S608 - names
        connection.execute(text(f"INSERT INTO {name} SELECT * FROM copy_of_{name}"))  # noqa: S608 - names
