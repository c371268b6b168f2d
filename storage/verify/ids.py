"""On PostgreSQL the ids stand beside the events: each event has one, at its position, and each one its event."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Connection

from storage import bulk
from storage.verify.finding import Finding, Looked, rows_at
from storage.verify.references import leaving

FIRST_ID = UUID(int=0)
_LAST_ID = UUID(int=(1 << 128) - 1)
_STEP = 16384
_NEXT_EVENT = "SELECT min(position) FROM events WHERE position > $1"
_EVENTS_WITHOUT_ID = """
SELECT count(*), array_agg(position ORDER BY position) FILTER (
    WHERE (SELECT ids.position FROM ids WHERE ids.id = events.id) IS DISTINCT FROM events.position
) FROM events WHERE position >= $1 AND position < $2
"""
_PAGE_END = "SELECT id FROM ids WHERE id > $1 ORDER BY id OFFSET $2::BIGINT LIMIT 1"
_IDS_WITHOUT_EVENT = """
SELECT count(*), array_agg(position ORDER BY position) FILTER (
    WHERE (SELECT events.id FROM events WHERE events.position = ids.position) IS DISTINCT FROM ids.id
) FROM ids WHERE id > $1 AND id <= $2
"""


def look_at_events(connection: Connection, after: int) -> Looked[int]:
    """Look up the ids of the next events, behind a position."""
    first: int | None = bulk.run(connection, _NEXT_EVENT, (after,))[0][0]
    if first is None:
        return Looked(0, (), None)
    end = first + _STEP
    count, wrong = bulk.run(connection, _EVENTS_WITHOUT_ID, (first, end))[0]
    return Looked(count, _findings("events", wrong or (), "its id is not in ids, or at another position"), end - 1)


def look_at_ids(connection: Connection, after: UUID) -> Looked[UUID]:
    """Look up the events of the next ids, behind an id."""
    page = bulk.run(connection, _PAGE_END, (after, _STEP - 1))
    count, lost = bulk.run(connection, _IDS_WITHOUT_EVENT, (after, page[0][0] if page else _LAST_ID))[0]
    going = leaving(connection)
    wrong = [position for position in lost or () if not going.has(position)]
    return Looked(count, _findings("ids", wrong, "there is no such event"), page[0][0] if page else None)


def _findings(table: str, wrong: Sequence[int], why: str) -> list[Finding]:
    if not wrong:
        return []
    return [
        Finding(
            check="ids",
            first=wrong[0],
            last=wrong[-1],
            expected=0,
            found=len(wrong),
            difference=len(wrong),
            look_at=f"{rows_at(table, wrong)}: {why}",
        )
    ]
