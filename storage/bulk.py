"""Many rows in one statement, at driver level: the hot path's way into the database.

One statement and not `executemany`: sqlite3 gives the interpreter lock away at every row, and a busy event loop keeps
it for up to five milliseconds each time; PostgreSQL takes arrays of columns fastest.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import cache
from itertools import chain
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql

from storage.rows import sixteen_bytes
from storage.tables import events

_SELECT_POSITIONS = "SELECT id, position FROM ids WHERE id = ANY($1::UUID[])"
# Partitions are chosen by the bounds, where a plan is kept: it knows nothing of what is in an array.
_SELECT_FIRST = (
    "SELECT position, source, mode, stream FROM events"
    " WHERE position = ANY($1::BIGINT[]) AND position >= $2 AND position <= $3"
)
_ROWS = 256  # in one SQLite statement: 12 columns × 256 stay well below its 32,766 variables


def run(connection: Connection, statement: str, parameters: tuple[Any, ...] = ()) -> Sequence[Any]:
    """Return the rows of a statement in the driver's own words.

    On SQLite it goes past SQLAlchemy's execution: 2 µs against 24, with the interpreter lock held, at each of the five
    statements of a commit.
    """
    if connection.dialect.name == "sqlite":
        driver: sqlite3.Connection = connection.connection.driver_connection  # type: ignore[assignment]
        return driver.execute(statement, parameters).fetchall()
    result = connection.exec_driver_sql(statement, parameters)
    return result.fetchall() if result.returns_rows else ()


def insert(
    connection: Connection, table: Table, columns: tuple[str, ...], rows: Sequence[tuple[Any, ...]], suffix: str = ""
) -> None:
    """Insert rows given as tuples in the order of `columns`; `suffix` may hold an ON CONFLICT clause."""
    if not rows:
        return
    if connection.dialect.name == "sqlite":
        for start in range(0, len(rows), _ROWS):
            some = rows[start : start + _ROWS]
            run(connection, _insert_values(table, columns, len(some), suffix), tuple(chain.from_iterable(some)))
    else:
        arrays = tuple(list(column) for column in zip(*rows, strict=True))
        run(connection, _insert_unnest(table, columns, suffix), arrays)


def known_ids(connection: Connection, ids: Sequence[UUID]) -> list[tuple[int, int, str, str, int]]:
    """Return (id as a number, position, source, mode, stream) of those ids that are in the store already."""
    if connection.dialect.name != "sqlite":
        return _known_by_position(connection, ids)
    known: list[tuple[int, int, str, str, int]] = []
    for start in range(0, len(ids), _ROWS):
        some = ids[start : start + _ROWS]
        rows = run(connection, _select_known(len(some)), tuple([sixteen_bytes(id_) for id_ in some]))
        known.extend((int.from_bytes(row[0], "big"), *row[1:]) for row in rows)
    return known


def _known_by_position(connection: Connection, ids: Sequence[UUID]) -> list[tuple[int, int, str, str, int]]:
    """Look the ids up beside the events. One whose event retention has just taken out is not known any more."""
    at = {row[1]: row[0].int for row in run(connection, _SELECT_POSITIONS, (list(ids),))}
    found = run(connection, _SELECT_FIRST, (list(at), min(at), max(at))) if at else ()
    return [(at[row[0]], *row) for row in found]


def insert_events(connection: Connection, columns: tuple[str, ...], rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert events given as tuples in the order of `columns`; on PostgreSQL with their ids beside them."""
    if connection.dialect.name == "sqlite":
        insert(connection, events, columns, rows)
    elif rows:
        run(connection, _insert_with_ids(columns), tuple(list(column) for column in zip(*rows, strict=True)))


@cache
def _insert_with_ids(columns: tuple[str, ...]) -> str:
    """Return a statement for both tables, which saves a commit a round trip.

    An id that is there already was of an event that is gone.
    """
    at, id_ = columns.index("position") + 1, columns.index("id") + 1
    return (
        f"WITH stored AS ({_insert_unnest(events, columns, '')}) INSERT INTO ids (position, id)"  # noqa: S608 - names
        f" SELECT * FROM unnest(${at}::BIGINT[], ${id_}::UUID[])"
        " ON CONFLICT (id) DO UPDATE SET position = excluded.position"
    )


@cache
def _select_known(count: int) -> str:
    return f"SELECT id, position, source, mode, stream FROM events WHERE id IN ({', '.join('?' * count)})"  # noqa: S608 - marks


@cache
def _insert_values(table: Table, columns: tuple[str, ...], count: int, suffix: str) -> str:
    row = f"({', '.join('?' * len(columns))})"
    return f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES {', '.join([row] * count)} {suffix}"  # noqa: S608 - names and marks


@cache
def _insert_unnest(table: Table, columns: tuple[str, ...], suffix: str) -> str:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    types = (table.c[name].type.compile(dialect) for name in columns)
    arrays = ", ".join(f"${number}::{type_}[]" for number, type_ in enumerate(types, 1))
    return f"INSERT INTO {table.name} ({', '.join(columns)}) SELECT * FROM unnest({arrays}) {suffix}"  # noqa: S608 - names
