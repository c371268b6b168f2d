"""What retention takes from handlers: a row that says which events a paused one will never have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, delete, select, update

from storage import bulk
from storage.clock import database_now
from storage.tables import cursors, deliveries, skipped

_COLUMNS = ("handler", "first_position", "last_position", "events", "at")
_CURSORS = select(cursors.c.handler, cursors.c.position, cursors.c.paused_at)
_COUNT = """
SELECT min(position), max(position), count(*) FROM events
WHERE position >= $1 AND position < $2 AND position NOT IN (SELECT position FROM {kept})
"""


class _Taken(NamedTuple):
    """The events that a handler never had: the first position, the last, and how many."""

    first: int
    last: int
    events: int


def note(connection: Connection, handlers: Sequence[str], positions: Sequence[int]) -> Mapping[str, int]:
    """Write down which of the events that are about to go a handler has not had; return how many each loses."""
    counts = {}
    chosen = _CURSORS.where(cursors.c.handler.in_(handlers))
    for handler, position, paused_at in connection.execute(chosen).all():
        parked = select(deliveries.c.position).where(
            deliveries.c.handler == handler, deliveries.c.position.in_(positions), deliveries.c.due_at.is_not(None)
        )
        taken = sorted([*connection.execute(parked).scalars(), *(at for at in positions if at > position)])
        if taken:
            _add(connection, handler, _Taken(taken[0], taken[-1], len(taken)), paused_at)
            counts[handler] = len(taken)
    return counts


def note_stretch(connection: Connection, handlers: Sequence[str], first: int, end: int, kept: str) -> Mapping[str, int]:
    """Do the same for all events from one position up to another but those in the table `kept`."""
    counts = {}
    behind = _CURSORS.where(cursors.c.handler.in_(handlers), cursors.c.position < end - 1)
    for handler, position, paused_at in connection.execute(behind).all():
        taken = _Taken(*bulk.run(connection, _COUNT.format(kept=kept), (max(first, position + 1), end))[0])
        if taken.events:
            _add(connection, handler, taken, paused_at)
            counts[handler] = taken.events
    return counts


def delete_parked(connection: Connection, positions: Sequence[int]) -> None:
    """Delete what is parked of these events, and count it for its handlers."""
    gone = delete(deliveries).where(deliveries.c.position.in_(positions)).returning(deliveries.c.handler)
    for handler, count in sorted(Counter(connection.execute(gone).scalars()).items()):
        whose = cursors.c.handler == handler
        connection.execute(update(cursors).where(whose).values(deleted=cursors.c.deleted + count))


def _add(connection: Connection, handler: str, taken: _Taken, paused_at: int | None) -> None:
    """Extend the row that was begun in the same pause where this follows it, or begin another one."""
    whose, now = skipped.c.handler == handler, database_now(connection)
    last = connection.execute(select(skipped).where(whose).order_by(skipped.c.first_position.desc())).first()
    is_same_pause = last is not None and paused_at is not None and last.at >= paused_at
    if last is not None and is_same_pause and last.last_position < taken.first:
        row = update(skipped).where(whose, skipped.c.first_position == last.first_position)
        more = {"last_position": taken.last, "events": skipped.c.events + taken.events, "at": now}
        connection.execute(row.values(more))
    else:
        again = "ON CONFLICT (handler, first_position) DO UPDATE SET events = skipped.events + excluded.events"
        bulk.insert(connection, skipped, _COLUMNS, [(handler, *taken, now)], again)
