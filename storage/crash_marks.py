"""Marks of events whose delivery may end the process: written before it begins, found by the next holder."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, delete, false, select, update

from storage import bulk
from storage.tables import crash_marks

_COLUMNS = ("handler", "position", "begun", "deaths")
_AGAIN = "ON CONFLICT (handler, position) DO UPDATE SET begun = true"


def mark(connection: Connection, handler: str, position: int | None) -> None:
    """Note that the delivery of one event begins; the one that had begun did not end the process, and is let off."""
    connection.execute(delete(crash_marks).where(crash_marks.c.handler == handler, crash_marks.c.begun))
    if position is not None:
        bulk.insert(connection, crash_marks, _COLUMNS, [(handler, position, True, 0)], _AGAIN)


def take_up(connection: Connection, handler: str) -> dict[int, int]:
    """Count a death for the event whose delivery had begun; return the deaths of all that are marked."""
    whose = crash_marks.c.handler == handler
    died = update(crash_marks).where(whose, crash_marks.c.begun)
    connection.execute(died.values(begun=false(), deaths=crash_marks.c.deaths + 1))
    marked = connection.execute(select(crash_marks.c.position, crash_marks.c.deaths).where(whose))
    return {row.position: row.deaths for row in marked}


def forgive(connection: Connection, handler: str, positions: Sequence[int]) -> None:
    """Forget the deaths of events that are dead letters now: a redrive gives them all their chances again."""
    if positions:
        whose = (crash_marks.c.handler == handler, crash_marks.c.position.in_(positions))
        connection.execute(delete(crash_marks).where(*whose))
