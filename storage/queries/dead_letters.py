"""Dead letters: events that a handler gave up, and why, one by one and by cause."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from msgspec import Struct
from sqlalchemy import ColumnElement, Connection, func, select

from ingest import event_json
from ingest.event_json import EventJson
from ingest.times import Time
from storage.queries import attempts
from storage.queries.attempts import AttemptRow, attempts_of
from storage.queries.events import CONTENTS
from storage.queries.page import Page, PageSpan, ordered, select_keys
from storage.queries.times import as_time_or_none
from storage.rows import event_of
from storage.tables import deliveries, events, ids_of

_MOST_CAUSES = 1000


class DeadLetterRow(Struct, frozen=True, kw_only=True):
    """An event a handler gave up; `event` is null where retention took it since.

    `attempts` are the first and the last twenty; `attempt_count` counts those since it was last redriven.
    """

    position: int
    cause: str | None
    error: str
    attempts: list[AttemptRow]
    attempt_count: int
    first_failed_at: Time | None
    event: EventJson | None


class DeadCauseRow(Struct, frozen=True, kw_only=True):
    """Dead letters of one cause and error: how many, and when the `first` and the `last` of them failed first."""

    cause: str | None
    error: str
    count: int
    first: Time | None
    last: Time | None


EXAMPLE = DeadLetterRow(
    position=1042,
    cause="server_error",
    error="answered 503: try later",
    attempts=[attempts.EXAMPLE],
    attempt_count=1,
    first_failed_at="2026-07-28T16:53:05.800Z",
    event=event_json.EXAMPLE,
)
CAUSE_EXAMPLE = DeadCauseRow(
    cause="server_error",
    error="answered 503: try later",
    count=17,
    first="2026-07-28T16:53:05.800Z",
    last="2026-07-28T17:20:11.014Z",
)


def dead_page(connection: Connection, handler: str, span: PageSpan, cause: str | None = None) -> Page[DeadLetterRow]:
    """Return the dead letters of a handler, by position; of one cause, where one is given."""
    key = deliveries.c.position
    contents = [
        select(content).where(events.c.position == key).correlate(deliveries).scalar_subquery() for content in CONTENTS
    ]
    own = (deliveries.c.error, deliveries.c.history)
    keys = select_keys(connection, key, (*own, *contents), _is_dead(handler, cause), span)
    if not keys.keys:
        return keys.page([], span, key="position")
    shown = ("position", "attempts", "first_failed_at", "error", "cause", "history")
    both = select(*(deliveries.c[name] for name in shown), *events.columns)
    query = both.join(events, events.c.position == key, isouter=True).where(
        deliveries.c.handler == handler, key.in_(keys.keys)
    )
    rows = [_dead_letter(*row) for row in connection.execute(ordered(query, key, span))]
    return keys.page(rows, span, key="position")


def dead_causes(connection: Connection, handler: str, cause: str | None = None) -> list[DeadCauseRow]:
    """Return the dead letters of a handler by cause and error, the most frequent first; at most a thousand rows."""
    count, failed_at = func.count(), deliveries.c.first_failed_at
    query = (
        select(deliveries.c.cause, deliveries.c.error, count, func.min(failed_at), func.max(failed_at))
        .where(*_is_dead(handler, cause))
        .group_by(deliveries.c.cause, deliveries.c.error)
        .order_by(count.desc(), deliveries.c.cause, deliveries.c.error)
        .limit(_MOST_CAUSES)
    )
    return [
        DeadCauseRow(cause=why, error=error, count=many, first=as_time_or_none(first), last=as_time_or_none(last))
        for why, error, many, first, last in connection.execute(query)
    ]


def dead_positions(connection: Connection, handler: str, ids: Sequence[UUID]) -> list[int]:
    """Return the positions of those events among `ids` that are dead letters of the handler."""
    known = ids_of(connection.dialect.name)
    query = (
        select(deliveries.c.position)
        .join(known, known.c.position == deliveries.c.position)
        .where(*_is_dead(handler), known.c.id.in_(ids))
        .order_by(deliveries.c.position)
    )
    return list(connection.execute(query).scalars())


def _is_dead(handler: str, cause: str | None = None) -> tuple[ColumnElement[bool], ...]:
    dead = (deliveries.c.handler == handler, deliveries.c.due_at.is_(None))
    return dead if cause is None else (*dead, deliveries.c.cause == cause)


def _dead_letter(
    position: int,
    attempt_count: int,
    first_failed_at: int | None,
    error: str,
    cause: str | None,
    history: str | None,
    *event: Any,
) -> DeadLetterRow:
    return DeadLetterRow(
        position=position,
        cause=cause,
        error=error,
        attempts=attempts_of(history),
        attempt_count=attempt_count,
        first_failed_at=as_time_or_none(first_failed_at),
        event=None if event[0] is None else event_json.event_json(event_of(event)),
    )
