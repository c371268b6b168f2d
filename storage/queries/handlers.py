"""Where each handler stands in the feed, what it left waiting, and its dead letters with their events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, select

from ingest.deliveries import HandlerLag
from ingest.event import Event
from storage.clock import database_now
from storage.deliveries import lag as lag_of
from storage.queries.events import CONTENTS
from storage.queries.page import Page, Span, ordered, select_keys
from storage.rows import event_of, from_micros, to_micros
from storage.tables import cursors, deliveries, events


@dataclass(frozen=True, slots=True)
class HandlerRow:
    """One handler's lag. `lag_seconds` is the age of the oldest event behind its cursor; 0.0 where there is none.

    `holder` is the process that has its lease, until `lease_expires_at`; `running` says whether that is still to come
    by the database's clock.
    """

    lag: HandlerLag
    lag_seconds: float
    running: bool
    holder: str | None
    lease_expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class DeadLetterRow:
    """An event a handler gave up. `event` is None where retention took it since."""

    position: int
    event: Event | None
    attempts: int
    first_failed_at: datetime | None
    error: str


def handler_rows(connection: Connection) -> list[HandlerRow]:
    """Every handler that has a cursor, by name."""
    now = database_now(connection)
    rows = connection.execute(select(cursors).order_by(cursors.c.handler)).all()
    return [
        HandlerRow(
            lag=lag,
            lag_seconds=0.0 if lag.oldest is None else max(now - to_micros(lag.oldest), 0) / 1_000_000,
            running=row.holder is not None and row.expires_at is not None and row.expires_at > now,
            holder=row.holder,
            lease_expires_at=None if row.expires_at is None else from_micros(row.expires_at),
        )
        for row in rows
        if (lag := lag_of(connection, row.handler)) is not None
    ]


def handler_exists(connection: Connection, handler: str) -> bool:
    """Whether a handler of this name has a cursor."""
    return connection.execute(select(cursors.c.handler).where(cursors.c.handler == handler)).first() is not None


def dead_page(connection: Connection, handler: str, span: Span) -> Page[DeadLetterRow]:
    """A handler's dead letters, by position."""
    key = deliveries.c.position
    is_dead = (deliveries.c.handler == handler, deliveries.c.due_at.is_(None))
    contents = [
        select(content).where(events.c.position == key).correlate(deliveries).scalar_subquery() for content in CONTENTS
    ]
    keys = select_keys(connection, key, (deliveries.c.error, *contents), is_dead, span)
    if not keys.keys:
        return keys.page([], span)
    both = select(key, deliveries.c.attempts, deliveries.c.first_failed_at, deliveries.c.error, *events.columns)
    query = both.join(events, events.c.position == key, isouter=True).where(
        deliveries.c.handler == handler, key.in_(keys.keys)
    )
    return keys.page([_dead_letter(*row) for row in connection.execute(ordered(query, key, span))], span)


def dead_positions(connection: Connection, handler: str, ids: Sequence[UUID]) -> list[int]:
    """The positions of those events among `ids` that are dead letters of the handler."""
    query = (
        select(deliveries.c.position)
        .join(events, events.c.position == deliveries.c.position)
        .where(deliveries.c.handler == handler, deliveries.c.due_at.is_(None), events.c.id.in_(ids))
        .order_by(deliveries.c.position)
    )
    return list(connection.execute(query).scalars())


def _dead_letter(position: int, attempts: int, first_failed_at: int | None, error: str, *event: Any) -> DeadLetterRow:
    return DeadLetterRow(
        position=position,
        event=None if event[0] is None else event_of(event),
        attempts=attempts,
        first_failed_at=None if first_failed_at is None else from_micros(first_failed_at),
        error=error,
    )
