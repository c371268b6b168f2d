"""What is in a database, read with plain statements past the code under test."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, text

from storage.engine import Database


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


async def tallies(database: Database) -> dict[str, int]:
    """Committed outcomes, summed over sources and minutes."""
    return {
        outcome: int(count)
        for outcome, count in await rows(database, "SELECT outcome, sum(count) FROM tallies GROUP BY outcome")
    }
