"""Many rows in one statement, at driver level: the hot path's way into the database.

One statement and not `executemany`: sqlite3 gives the interpreter lock away at every row, and a busy event loop keeps
it for up to five milliseconds each time; PostgreSQL takes arrays of columns fastest.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import cache
from itertools import chain
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql

from storage import asyncpg_calls
from storage.rows import sixteen_bytes
from storage.tables import events, ids

_SELECT_POSITIONS = "SELECT id, position FROM ids WHERE id = ANY($1::UUID[])"
# Partitions are chosen by the bounds, where a plan is kept: it knows nothing of what is in an array.
_SELECT_FIRST = (
    "SELECT position, source, mode, stream FROM events"
    " WHERE position = ANY($1::BIGINT[]) AND position >= $2 AND position <= $3"
)
_ROWS = 256  # in one SQLite statement: 12 columns × 256 stay well below its 32,766 variables


def run(connection: Connection, statement: str, parameters: tuple[Any, ...] = ()) -> Sequence[Any]:
    """Return the rows of a statement in the driver's own words. Raises what the driver raises.

    It goes past SQLAlchemy's execution: on SQLite 2 µs against 24, at each of the five statements of a commit.
    """
    if connection.dialect.name == "sqlite":
        driver: sqlite3.Connection = connection.connection.driver_connection  # type: ignore[assignment]
        return driver.execute(statement, parameters).fetchall()
    return asyncpg_calls.fetch(connection, statement, parameters)


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


def known_ids(connection: Connection, wanted: Sequence[UUID]) -> list[tuple[int, int, str, str, int]]:
    """Return (id as a number, position, source, mode, stream) of those ids that are in the store already."""
    if connection.dialect.name != "sqlite":
        return _known_by_position(connection, wanted)
    known: list[tuple[int, int, str, str, int]] = []
    for start in range(0, len(wanted), _ROWS):
        some = wanted[start : start + _ROWS]
        rows = run(connection, _select_known(len(some)), tuple([sixteen_bytes(id_) for id_ in some]))
        known.extend((int.from_bytes(row[0], "big"), *row[1:]) for row in rows)
    return known


def _known_by_position(connection: Connection, wanted: Sequence[UUID]) -> list[tuple[int, int, str, str, int]]:
    """Look the ids up beside the events. One whose event retention has just taken out is not known any more."""
    at = {row[1]: row[0].int for row in run(connection, _SELECT_POSITIONS, (list(wanted),))}
    return [(at[row[0]], *row) for row in _first_at(connection, list(at))]


def known_positions(connection: Connection, positions: Sequence[int]) -> set[int]:
    """Return those positions of which PostgreSQL has the event."""
    return {row[0] for row in _first_at(connection, list(positions))}


def _first_at(connection: Connection, positions: list[int]) -> Sequence[Any]:
    return run(connection, _SELECT_FIRST, (positions, min(positions), max(positions))) if positions else ()


class Insert(NamedTuple):
    """Rows of a table, given as tuples in the order of `columns`; `suffix` may hold an ON CONFLICT clause."""

    table: Table
    columns: tuple[str, ...]
    rows: Sequence[tuple[Any, ...]]
    suffix: str = ""


class Statement(NamedTuple):
    """A statement with `{}` in the places of its values."""

    text: str
    values: tuple[Any, ...] = ()


def insert_all(connection: Connection, inserts: Sequence[Insert], last: Statement | None = None) -> None:
    """Insert into several tables, and then run `last`.

    On PostgreSQL that is one statement: round trips are most of what a small batch costs there.
    """
    filled = [one for one in inserts if one.rows]
    if connection.dialect.name == "sqlite":
        for table, columns, rows, suffix in filled:
            insert(connection, table, columns, rows, suffix)
        if last is not None:
            run(connection, last.text.format(*"?" * len(last.values)), last.values)
    elif filled or last is not None:
        shapes = tuple((table, columns, suffix) for table, columns, _, suffix in filled)
        arrays = [list(column) for one in filled for column in zip(*one.rows, strict=True)]
        text, values = last or Statement("SELECT 1")
        run(connection, _insert_all(shapes, text, len(values)), (*arrays, *values))


def event_inserts(connection: Connection, columns: tuple[str, ...], rows: Sequence[tuple[Any, ...]]) -> list[Insert]:
    """Return how events are inserted; on PostgreSQL with their ids beside them.

    An id that is there already was of an event that is gone.
    """
    if connection.dialect.name == "sqlite":
        return [Insert(events, columns, rows)]
    at, id_ = columns.index("position"), columns.index("id")
    beside = [(row[id_], row[at]) for row in rows]
    replace = "ON CONFLICT (id) DO UPDATE SET position = excluded.position"
    return [Insert(events, columns, rows), Insert(ids, ("id", "position"), beside, replace)]


@cache
def _insert_all(shapes: tuple[tuple[Table, tuple[str, ...], str], ...], last: str, values: int) -> str:
    parts, number = [], 1
    for table, columns, suffix in shapes:
        parts.append(f"{table.name}_ AS ({_insert_unnest(table, columns, suffix, number)})")
        number += len(columns)
    marks = (f"${number + value}" for value in range(values))
    return (f"WITH {', '.join(parts)} " if parts else "") + last.format(*marks)


@cache
def _select_known(count: int) -> str:
    return f"SELECT id, position, source, mode, stream FROM events WHERE id IN ({', '.join('?' * count)})"  # noqa: S608 - marks


@cache
def _insert_values(table: Table, columns: tuple[str, ...], count: int, suffix: str) -> str:
    row = f"({', '.join('?' * len(columns))})"
    return f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES {', '.join([row] * count)} {suffix}"  # noqa: S608 - names and marks


@cache
def _insert_unnest(table: Table, columns: tuple[str, ...], suffix: str, first: int = 1) -> str:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    types = (table.c[name].type.compile(dialect) for name in columns)
    arrays = ", ".join(f"${number}::{type_}[]" for number, type_ in enumerate(types, first))
    return f"INSERT INTO {table.name} ({', '.join(columns)}) SELECT * FROM unnest({arrays}) {suffix}"  # noqa: S608 - names
