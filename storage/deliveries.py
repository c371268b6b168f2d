"""The rows that handlers left parked, as plain functions of a connection.

For cursors, and for whoever reads without a lease.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import CompoundSelect, Connection, Select, delete, func, or_, select, union_all

from ingest.deliveries import Attempt, Circuit, CircuitState, HandlerLag, Parked, Passed
from ingest.event import Event
from storage import bulk
from storage.events_at import events_at
from storage.pauses import pause_of
from storage.rows import from_micros, to_micros
from storage.tables import LAST_POSITION, cursors, deliveries, events

_COLUMNS = ("handler", "position", "device", "attempts", "first_failed_at", "due_at", "error", "cause", "history")
_AT_ONCE = 0  # due by anybody's clock
_CHUNK = 500
_REPLACE = (
    "ON CONFLICT (handler, position) DO UPDATE SET attempts = excluded.attempts, "
    "first_failed_at = excluded.first_failed_at, due_at = excluded.due_at, error = excluded.error, "
    "cause = excluded.cause, history = excluded.history"
)
_write_history = msgspec.json.Encoder().encode
_read_history = msgspec.json.Decoder(tuple[Attempt, ...]).decode


def write(connection: Connection, handler: str, parked: Sequence[Parked]) -> None:
    """Write parked rows, over the ones that are there."""
    bulk.insert(connection, deliveries, _COLUMNS, [_row(handler, row) for row in parked], _REPLACE)


def delete_rows(connection: Connection, handler: str, positions: Sequence[int]) -> None:
    """Delete the rows of delivered events."""
    for start in range(0, len(positions), _CHUNK):
        some = positions[start : start + _CHUNK]
        connection.execute(delete(deliveries).where(deliveries.c.handler == handler, deliveries.c.position.in_(some)))


def due(
    connection: Connection,
    handler: str,
    now: datetime,
    limit: int,
    *,
    by_device: bool,
    beyond: datetime | None = None,
) -> list[tuple[Parked, Event]]:
    """See protocols.Cursor.due."""
    is_due = deliveries.c.due_at <= to_micros(now)
    statement = _parked(handler).where(
        is_due if beyond is None else or_(is_due, deliveries.c.due_at > to_micros(beyond)),
    )
    if by_device:
        first = (
            select(func.min(deliveries.c.position))
            .where(
                deliveries.c.handler == handler,
                deliveries.c.due_at.is_not(None),
                deliveries.c.device.is_not(None),
            )
            .group_by(deliveries.c.device)
        )
        statement = statement.where(or_(deliveries.c.device.is_(None), deliveries.c.position.in_(first)))
    return _pairs(
        connection, statement.order_by(None).order_by(deliveries.c.due_at, deliveries.c.position).limit(limit)
    )


def behind(
    connection: Connection, handler: str, devices: Sequence[str], limit: int
) -> dict[str, list[tuple[Parked, Event]]]:
    """See protocols.Cursor.behind."""
    found: dict[str, list[tuple[Parked, Event]]] = {device: [] for device in devices}
    alive = _parked(handler).where(deliveries.c.due_at.is_not(None)).limit(limit)
    each = [select(alive.where(deliveries.c.device == device).subquery()) for device in found]
    pairs = _pairs(connection, each[0] if len(each) == 1 else union_all(*each))
    for parked, event in sorted(pairs, key=lambda pair: pair[0].position):
        found[str(parked.device)].append((parked, event))
    return found


def waiting_devices(connection: Connection, handler: str) -> list[str]:
    """See protocols.Cursor.waiting_devices."""
    waiting = select(deliveries.c.device).where(
        deliveries.c.handler == handler, deliveries.c.due_at.is_not(None), deliveries.c.device.is_not(None)
    )
    return [device for (device,) in connection.execute(waiting.distinct()) if device is not None]


def circuit_of(row: Any) -> Circuit:
    """Return the circuit that a row of `cursors` tells of."""
    since = None if row.circuit_since is None else from_micros(row.circuit_since)
    return Circuit(CircuitState(row.circuit or CircuitState.CLOSED), since, row.last_error)


def lag(connection: Connection, handler: str) -> HandlerLag | None:
    """Return how far a handler is; None where it never ran."""
    row = connection.execute(select(cursors).where(cursors.c.handler == handler)).one_or_none()
    if row is None:
        return None
    behind_it = events.c.position > row.position
    next_event = select(events.c.received_at).where(behind_it).order_by(events.c.position).limit(1)
    oldest = connection.execute(next_event).scalar_one_or_none()
    counts = select(func.count(), func.count(deliveries.c.due_at)).where(deliveries.c.handler == handler)
    parked, waiting = connection.execute(counts).one()
    return HandlerLag(
        handler=handler,
        position=row.position,
        head=connection.execute(LAST_POSITION).scalar_one(),
        oldest=None if oldest is None else from_micros(oldest),
        waiting=waiting,
        dead=parked - waiting,
        passed=Passed(row.first_position, row.unmatched, row.delivered, row.deleted, row.skipped),
        pause=pause_of(row),
        circuit=circuit_of(row),
    )


def _parked(handler: str) -> Select[Any]:
    """Return a query for a handler's parked rows, in order of position."""
    parked = (deliveries.c[name] for name in _COLUMNS[1:])
    return select(*parked).where(deliveries.c.handler == handler).order_by(deliveries.c.position)


def _pairs(connection: Connection, statement: Select[Any] | CompoundSelect[Any]) -> list[tuple[Parked, Event]]:
    """Return the parked rows with their events.

    Not by a join: it may read all events between the first and the last.
    """
    rows = [_parked_of(row) for row in connection.execute(statement)]
    positions = sorted({row.position for row in rows})
    found: dict[int, Event] = {}
    for start in range(0, len(positions), _CHUNK):
        found |= events_at(connection, positions[start : start + _CHUNK])
    return [(row, found[row.position]) for row in rows if row.position in found]


def _row(handler: str, parked: Parked) -> tuple[Any, ...]:
    """Return a row in the order of _COLUMNS."""
    failed, at = parked.first_failed_at, parked.due_at
    times = (None if failed is None else to_micros(failed), None if at is None else to_micros(at))
    history = _write_history(parked.history).decode() if parked.history else None
    return (handler, parked.position, parked.device, parked.attempts, *times, parked.error, parked.cause, history)


def _parked_of(row: Any) -> Parked:
    position, device, attempts, failed, at, error, cause, history = row
    times = (None if failed is None else from_micros(failed), None if at is None else from_micros(at))
    return Parked(position, device, attempts, *times, error, cause, history_of(history))


def history_of(text: str | None) -> tuple[Attempt, ...]:
    """Return the attempts that a row of `deliveries` keeps."""
    return _read_history(text) if text else ()
