"""What the store says of a handler, read past the product: the rows of its tables."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

_EVENTS = "SELECT position, id, device FROM events ORDER BY position"
_PARKED = "SELECT position, attempts, due_at, cause, history FROM deliveries WHERE handler = '{}'"
_CURSOR = "SELECT position, first_position, unmatched, delivered, deleted, skipped FROM cursors WHERE handler = '{}'"


@dataclass(frozen=True, slots=True)
class Stored:
    """A committed event."""

    position: int
    id: UUID
    device: str | None


class Tried(msgspec.Struct, frozen=True):
    """An attempt, as the history of a row has it."""

    at: datetime
    status: int | None
    cause: str


@dataclass(frozen=True, slots=True)
class Row:
    """A row of `deliveries`."""

    position: int
    attempts: int
    dead: bool
    cause: str | None
    history: Sequence[Tried]


@dataclass(frozen=True, slots=True)
class Tally:
    """A row of `cursors`."""

    position: int
    first: int
    unmatched: int
    delivered: int
    deleted: int
    skipped: int


@dataclass(frozen=True, slots=True)
class Account:
    """All that the store knows."""

    events: Sequence[Stored]
    rows: Sequence[Row]
    tally: Tally


def read_account(url: str, handler: str) -> Account:
    """Read what there is of one handler, from `sqlite:///path` or `postgresql://…`."""
    statements = [each.format(handler) for each in (_EVENTS, _PARKED, _CURSOR)]
    events, parked, (cursor,) = ask(url, *statements)
    stored = [Stored(position, _uuid(id_), device) for position, id_, device in events]
    rows = [
        Row(position, attempts, due is None, cause, _history(history))
        for position, attempts, due, cause, history in parked
    ]
    return Account(stored, rows, Tally(*cursor))


def ask(url: str, *statements: str) -> list[list[Any]]:
    """Return the rows of each statement; what one writes is committed."""
    if url.startswith("sqlite:///"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"), timeout=30)) as connection, connection:
            return [connection.execute(statement).fetchall() for statement in statements]
    return asyncio.run(_ask_postgres(url, statements))


async def _ask_postgres(url: str, statements: Sequence[str]) -> list[list[Any]]:
    connection = await asyncpg.connect(url)
    try:
        return [[tuple(row) for row in await connection.fetch(statement)] for statement in statements]
    finally:
        await connection.close()


def _uuid(found: Any) -> UUID:
    return UUID(bytes=found) if isinstance(found, bytes) else UUID(str(found))


def _history(text: str | None) -> list[Tried]:
    return msgspec.json.decode(text or "[]", type=list[Tried])
