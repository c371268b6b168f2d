"""Rejects: what was authentic but could not become an event, with the bytes that were sent and what stood beside."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field
from sqlalchemy import Connection, Integer, Row, func, select

from ingest.event_json import encodable
from ingest.times import Time, rfc3339
from storage.queries.page import Page, PageSpan, ordered, select_keys
from storage.rows import reject_of
from storage.tables import rejects


class RejectRow(Struct, frozen=True, kw_only=True):
    """What was authentic but could not become an event. `body_base64` is what was sent.

    `attributes` stood beside it, in a Pub/Sub message for one; null where there were none.
    """

    id: int
    source: str
    mode: str
    received_at: Time
    reason: str
    body: bytes = field(name="body_base64")
    attributes: Mapping[str, str] | None


EXAMPLE = RejectRow(
    id=2,
    source="fleet",
    mode="webhook",
    received_at="2026-07-28T16:53:05.702Z",
    reason="malformed_json",
    body=b'{"event":"temp',
    attributes=None,
)


def rejects_page(connection: Connection, span: PageSpan, *, source: str | None = None) -> Page[RejectRow]:
    """Return the rejects of a span, optionally of one source."""
    conditions = [] if source is None else [rejects.c.source == source]
    as_base64 = func.length(rejects.c.body, type_=Integer) * 4 // 3
    sizes = (as_base64, rejects.c.attributes, rejects.c.headers)
    keys = select_keys(connection, rejects.c.id, sizes, conditions, span)
    if not keys.keys:
        return keys.page([], span)
    query = ordered(select(rejects).where(rejects.c.id.in_(keys.keys)), rejects.c.id, span)
    return keys.page(list(map(_reject_row, connection.execute(query))), span)


def _reject_row(row: Row[tuple[object, ...]]) -> RejectRow:
    reject = reject_of(row)
    return RejectRow(
        id=row.id,
        source=reject.source,
        mode=reject.mode,
        received_at=rfc3339(reject.received_at),
        reason=reject.reason.value,
        body=reject.body,
        attributes=encodable(reject.attributes) if reject.attributes else None,
    )
