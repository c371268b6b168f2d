"""Gaps: when nothing of a source and mode was listening, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from ingest.coverage import Gap
from ingest.event import Cause, Mode
from storage.clock import database_now
from storage.queries.page import Page, Span, ordered, select_keys
from storage.rows import from_micros
from storage.tables import gaps


@dataclass(frozen=True, slots=True)
class GapRow:
    """A gap under the number it was written by. `seconds` of one that lasts are up to now."""

    id: int
    source: str
    mode: Mode
    gap: Gap
    seconds: float


def gaps_page(connection: Connection, span: Span, *, source: str | None = None) -> Page[GapRow]:
    """The gaps of a span, optionally of one source."""
    conditions = [] if source is None else [gaps.c.source == source]
    keys = select_keys(connection, gaps.c.id, (gaps.c.cause,), conditions, span)
    if not keys.keys:
        return keys.page([], span)
    query = ordered(select(gaps).where(gaps.c.id.in_(keys.keys)), gaps.c.id, span)
    now = database_now(connection)
    return keys.page([_gap_row(row, now) for row in connection.execute(query)], span)


def open_gaps(connection: Connection) -> list[GapRow]:
    """The gaps that last, by source and mode."""
    query = select(gaps).where(gaps.c.until.is_(None)).order_by(gaps.c.source, gaps.c.mode)
    now = database_now(connection)
    return [_gap_row(row, now) for row in connection.execute(query)]


def _gap_row(row: Any, now: int) -> GapRow:
    until = None if row.until is None else from_micros(row.until)
    return GapRow(
        id=row.id,
        source=row.source,
        mode=row.mode,
        gap=Gap(from_micros(row.since), until, Cause(row.cause), row.suspected),
        seconds=max((now if row.until is None else row.until) - row.since, 0) / 1_000_000,
    )
