"""What was authentic but could not become an event, with the bytes that were sent and what stood beside them."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, Integer, func, select

from ingest.event import Reject
from storage.queries.page import Page, Span, ordered, select_keys
from storage.rows import reject_of
from storage.tables import rejects


@dataclass(frozen=True, slots=True)
class RejectRow:
    """A reject under the number it was kept by."""

    id: int
    reject: Reject


def rejects_page(connection: Connection, span: Span, *, source: str | None = None) -> Page[RejectRow]:
    """The rejects of a span, optionally of one source."""
    conditions = [] if source is None else [rejects.c.source == source]
    as_base64 = func.length(rejects.c.body, type_=Integer) * 4 // 3
    sizes = (as_base64, rejects.c.attributes, rejects.c.headers)
    keys = select_keys(connection, rejects.c.id, sizes, conditions, span)
    if not keys.keys:
        return keys.page([], span)
    query = ordered(select(rejects).where(rejects.c.id.in_(keys.keys)), rejects.c.id, span)
    rows = [RejectRow(row.id, reject_of(row)) for row in connection.execute(query)]
    return keys.page(rows, span)
