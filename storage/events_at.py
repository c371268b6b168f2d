"""Events by their positions, wherever they lie."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ARRAY, BigInteger, Connection, Select, cast, func, select, true

from ingest.event import Event
from storage.rows import event_of
from storage.tables import events


def events_at(connection: Connection, positions: Sequence[int]) -> dict[int, Event]:
    """Return the events of these positions that are there, by position."""
    if not positions:
        return {}
    statement = _among if connection.dialect.name == "sqlite" else _one_by_one
    return {row.position: event_of(row) for row in connection.execute(statement(positions))}


def _among(positions: Sequence[int]) -> Select[Any]:
    return select(events).where(events.c.position.in_(positions))


def _one_by_one(positions: Sequence[int]) -> Select[Any]:
    """Return a query that asks for each in its partition; a list would be looked for in every one.

    OFFSET 0 keeps it so: as a join it may read all events between the first and the last.
    """
    wanted = func.unnest(cast([*positions], ARRAY(BigInteger))).table_valued("position").render_derived("wanted")
    found = select(events).where(events.c.position == wanted.c.position).offset(0).lateral("found")
    return select(found).select_from(wanted).join(found, true())
