"""Reads what is durable, past the product: the database file itself, or PostgreSQL."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

import asyncpg

_EVENTS = "SELECT position, id, data FROM events ORDER BY position"
_HEAD = "SELECT position FROM head"
_TALLIES = "SELECT outcome, sum(count) FROM tallies GROUP BY outcome"
_KEPT = "SELECT (SELECT count(*) FROM sightings), (SELECT count(*) FROM rejects)"
_ALL = (_EVENTS, _HEAD, _TALLIES, _KEPT)


@dataclass(frozen=True, slots=True)
class Row:
    """One stored event."""

    position: int
    id: bytes
    data: bytes


@dataclass(frozen=True, slots=True)
class Contents:
    """What a store holds: events in order, the last position given, the tallied outcomes, rows of the other kinds."""

    rows: Sequence[Row]
    head: int
    tallies: dict[str, int]
    sightings: int = 0
    rejects: int = 0


def read(url: str) -> Contents:
    """Everything the oracle compares, from `sqlite:///path` or `postgresql://…`."""
    if url.startswith("sqlite:///"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
            return _contents(*(connection.execute(statement).fetchall() for statement in _ALL))
    return asyncio.run(_read_postgres(url))


async def _read_postgres(url: str) -> Contents:
    connection = await asyncpg.connect(url)
    try:
        return _contents(*[await connection.fetch(statement) for statement in _ALL])
    finally:
        await connection.close()


def _contents(
    events: Sequence[tuple[int, object, bytes | None]],
    head: Sequence[tuple[int]],
    tallies: Sequence[tuple[str, int]],
    kept: Sequence[tuple[int, int]],
) -> Contents:
    return Contents(list(_rows(events)), head[0][0], {outcome: int(count) for outcome, count in tallies}, *kept[0])


def _rows(events: Sequence[tuple[int, object, bytes | None]]) -> Iterator[Row]:
    for position, id_, data in events:
        yield Row(position, id_ if isinstance(id_, bytes) else id_.bytes, data or b"")  # type: ignore[attr-defined]
