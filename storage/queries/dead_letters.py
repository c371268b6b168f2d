"""Dead letters: events that a handler gave up, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from msgspec import Struct
from sqlalchemy import Connection, select

from ingest import event_json
from ingest.event_json import EventJson
from ingest.times import Time
from storage.queries.events import CONTENTS
from storage.queries.page import Page, PageSpan, ordered, select_keys
from storage.queries.times import as_time_or_none
from storage.rows import event_of
from storage.tables import deliveries, events


class DeadLetterRow(Struct, frozen=True, kw_only=True):
    """An event a handler gave up; `event` is null where retention took it since."""

    position: int
    error: str
    attempts: int
    first_failed_at: Time | None
    event: EventJson | None


EXAMPLE = DeadLetterRow(
    position=1042,
    error="ValueError: no such rule",
    attempts=12,
    first_failed_at="2026-07-28T16:53:05.800Z",
    event=event_json.EXAMPLE,
)


def dead_page(connection: Connection, handler: str, span: PageSpan) -> Page[DeadLetterRow]:
    """Return the dead letters of a handler, by position."""
    key = deliveries.c.position
    is_dead = (deliveries.c.handler == handler, deliveries.c.due_at.is_(None))
    contents = [
        select(content).where(events.c.position == key).correlate(deliveries).scalar_subquery() for content in CONTENTS
    ]
    keys = select_keys(connection, key, (deliveries.c.error, *contents), is_dead, span)
    if not keys.keys:
        return keys.page([], span, key="position")
    both = select(key, deliveries.c.attempts, deliveries.c.first_failed_at, deliveries.c.error, *events.columns)
    query = both.join(events, events.c.position == key, isouter=True).where(
        deliveries.c.handler == handler, key.in_(keys.keys)
    )
    rows = [_dead_letter(*row) for row in connection.execute(ordered(query, key, span))]
    return keys.page(rows, span, key="position")


def dead_positions(connection: Connection, handler: str, ids: Sequence[UUID]) -> list[int]:
    """Return the positions of those events among `ids` that are dead letters of the handler."""
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
        error=error,
        attempts=attempts,
        first_failed_at=as_time_or_none(first_failed_at),
        event=None if event[0] is None else event_json.event_json(event_of(event)),
    )
