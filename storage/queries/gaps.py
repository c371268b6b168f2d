"""Gaps: when nothing of a source and mode was listening, and why."""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from sqlalchemy import Connection, select

from ingest.times import Time
from storage.clock import database_now
from storage.queries.page import Page, PageSpan, ordered, select_keys
from storage.queries.times import as_time, as_time_or_none
from storage.tables import gaps


class GapRow(Struct, frozen=True, kw_only=True):
    """When nothing of a source and mode was listening. `until` is null while it lasts, and `seconds` are up to now.

    `suspected` is how many events it may have cost: its length times the usual rate; 0 while it lasts.
    """

    id: int
    source: str
    mode: str
    since: Time
    until: Time | None
    cause: str
    seconds: float
    suspected: float


class OpenGap(Struct, frozen=True, kw_only=True):
    """Since when nothing is listening, and why; `seconds` are up to now."""

    since: Time
    cause: str
    seconds: float


EXAMPLE = GapRow(
    id=3,
    source="fleet",
    mode="webhook",
    since="2026-07-28T07:58:21.104Z",
    until="2026-07-28T08:00:00.000Z",
    cause="down",
    seconds=98.896,
    suspected=11.5,
)


def gaps_page(connection: Connection, span: PageSpan, *, source: str | None = None) -> Page[GapRow]:
    """Return the gaps of a span, optionally of one source."""
    conditions = [] if source is None else [gaps.c.source == source]
    keys = select_keys(connection, gaps.c.id, (gaps.c.cause,), conditions, span)
    if not keys.keys:
        return keys.page([], span)
    query = ordered(select(gaps).where(gaps.c.id.in_(keys.keys)), gaps.c.id, span)
    now = database_now(connection)
    return keys.page([_gap_row(row, now) for row in connection.execute(query)], span)


def _gap_row(row: Any, now: int) -> GapRow:
    return GapRow(
        id=row.id,
        source=row.source,
        mode=row.mode,
        since=as_time(row.since),
        until=as_time_or_none(row.until),
        cause=row.cause,
        seconds=max((now if row.until is None else row.until) - row.since, 0) / 1_000_000,
        suspected=round(row.suspected, 3),
    )
