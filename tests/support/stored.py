"""What is in a database, read with plain statements past the code under test."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, select, text

from ingest.event import Reject
from storage import tables
from storage.engine import Database
from storage.rows import reject_of


async def rows(database: Database, statement: str) -> list[tuple[Any, ...]]:
    """All rows of a SELECT."""

    def read(connection: Connection) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in connection.execute(text(statement))]

    return await database.read(read)


async def run(database: Database, statement: str) -> None:
    """Run a statement that gives no rows."""

    def write(connection: Connection) -> None:
        connection.execute(text(statement))

    await database.write(write)


async def positions(database: Database) -> list[int]:
    """The positions of the stored events, ascending."""
    return [row[0] for row in await rows(database, "SELECT position FROM events ORDER BY position")]


async def rejects(database: Database) -> list[Reject]:
    """The rejects that are kept, in the order of their numbers."""
    query = select(tables.rejects).order_by(tables.rejects.c.id)
    return await database.read(lambda connection: [reject_of(row) for row in connection.execute(query)])


async def tallies(database: Database) -> dict[str, int]:
    """Committed outcomes, summed over sources and minutes."""
    return {
        outcome: int(count)
        for outcome, count in await rows(database, "SELECT outcome, sum(count) FROM tallies GROUP BY outcome")
    }
