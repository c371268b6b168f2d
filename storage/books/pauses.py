"""The longest pause of each source by day, between two of its events in whatever mode, in order of commit.

The vendor's own events about a device come when nobody sends anything: they end no pause. An event that was received
before the last one, and committed after it, ends none either.
"""

from __future__ import annotations

from functools import cache

from sqlalchemy import Connection, TextClause

from storage.books.sql import DAY, LARGER, OF_VENDOR, WITHIN, statement_of

_KEPT_DAYS = 8
_POST = """
WITH step AS (
  SELECT source, received_at, max(received_at)
    OVER (PARTITION BY source ORDER BY position ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS last_at
  FROM events WHERE {within} AND NOT {of_vendor}
), known AS (
  SELECT source, max(last_at) AS last_at FROM pauses GROUP BY source
), quiet AS (
  SELECT step.source, step.received_at, step.received_at
    - {larger}(coalesce(step.last_at, known.last_at), coalesce(known.last_at, step.last_at)) AS pause
  FROM step LEFT JOIN known ON known.source = step.source
)
INSERT INTO pauses (source, day, longest, last_at)
SELECT source, received_at / {day}, coalesce(max({larger}(0, pause)), 0), max(received_at)
FROM quiet WHERE true GROUP BY source, received_at / {day}
ON CONFLICT (source, day) DO UPDATE SET
  longest = {larger}(pauses.longest, excluded.longest), last_at = {larger}(pauses.last_at, excluded.last_at)
"""
_FORGET = """
DELETE FROM pauses WHERE day <= (SELECT max(day) FROM pauses AS own WHERE own.source = pauses.source) - :days
"""


def post(connection: Connection, after: int, end: int) -> None:
    """Post the events behind `after` up to `end`; forget days that are more than a week behind a source's last one."""
    connection.execute(_posting(connection.dialect.name), {"after": after, "end": end})
    connection.execute(_forgetting(), {"days": _KEPT_DAYS})


@cache
def _posting(dialect: str) -> TextClause:
    return statement_of(_POST.format(within=WITHIN, of_vendor=OF_VENDOR, larger=LARGER[dialect], day=DAY))


@cache
def _forgetting() -> TextClause:
    return statement_of(_FORGET)
