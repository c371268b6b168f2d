"""What each source brought, over all processes and restarts: the committed tallies and the time that was covered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, case, func, select

from ingest.event import Mode
from storage.clock import database_now
from storage.rows import from_micros
from storage.tables import coverage, gaps, tallies

_Way = tuple[str, str]  # a source and one of its modes
_MICROSECONDS_PER_MINUTE = 60_000_000


@dataclass(frozen=True, slots=True)
class OpenInterval:
    """A stream that is not known to have ended: proven from `since` to `until`, which was `silent_seconds` ago."""

    stream: int
    since: datetime
    until: datetime
    silent_seconds: float


@dataclass(frozen=True, slots=True)
class Covered:
    """When a source and mode was listening, by any of its streams: from `since` to `until`, but for its gaps.

    The last of these that is over ended at `unbroken_since`. `open` are the streams that may listen still.
    """

    since: datetime
    until: datetime
    unbroken_since: datetime
    open: Sequence[OpenInterval]


@dataclass(frozen=True, slots=True)
class SourceTotals:
    """One source and mode. `counts` are by outcome, and `expired`; `last_minute` is the last one with traffic.

    `covered` is None where it never listened, and where nobody keeps a record of it.
    """

    source: str
    mode: Mode
    counts: Mapping[str, int]
    last_minute: datetime | None
    covered: Covered | None


def source_totals(connection: Connection) -> list[SourceTotals]:
    """Every source and mode that ever committed or listened, sorted."""
    counts: dict[tuple[str, str], dict[str, int]] = {}
    minutes: dict[tuple[str, str], int] = {}
    arrived = case((tallies.c.outcome != "expired", tallies.c.minute))
    by_outcome = select(
        tallies.c.source, tallies.c.mode, tallies.c.outcome, func.sum(tallies.c.count), func.max(arrived)
    ).group_by(tallies.c.source, tallies.c.mode, tallies.c.outcome)
    for source, mode, outcome, count, minute in connection.execute(by_outcome):
        counts.setdefault((source, mode), {})[outcome] = int(count)
        if minute is not None:
            minutes[source, mode] = max(minute, minutes.get((source, mode), minute))
    covered = _covered(connection)
    return [
        SourceTotals(
            *(source, mode, counts.get((source, mode), {})),
            _minute(minutes.get((source, mode))),
            covered.get((source, mode)),
        )
        for source, mode in sorted(counts.keys() | covered.keys())
    ]


def _covered(connection: Connection) -> dict[_Way, Covered]:
    way = coverage.c.source, coverage.c.mode
    ends = select(*way, func.min(coverage.c.since), func.max(coverage.c.until)).group_by(*way)
    last_gaps, open_ = _last_gaps(connection), _open_intervals(connection)
    return {
        (source, mode): Covered(
            from_micros(since),
            from_micros(until),
            from_micros(max(since, last_gaps.get((source, mode), since))),
            open_.get((source, mode), ()),
        )
        for source, mode, since, until in connection.execute(ends)
    }


def _last_gaps(connection: Connection) -> dict[_Way, int]:
    """When the last gap of each source and mode ended, among those that are over."""
    way = gaps.c.source, gaps.c.mode
    ends = select(*way, func.max(gaps.c.until)).where(gaps.c.until.is_not(None)).group_by(*way)
    return {(source, mode): until for source, mode, until in connection.execute(ends)}


def _open_intervals(connection: Connection) -> dict[_Way, list[OpenInterval]]:
    found: dict[_Way, list[OpenInterval]] = {}
    query = select(coverage).where(~coverage.c.ended).order_by(coverage.c.stream, coverage.c.id)
    rows = connection.execute(query).all()
    now = database_now(connection)
    for row in rows:
        silent = max(now - row.until, 0) / 1_000_000
        interval = OpenInterval(row.stream, from_micros(row.since), from_micros(row.until), silent)
        found.setdefault((row.source, row.mode), []).append(interval)
    return found


def _minute(minute: int | None) -> datetime | None:
    return None if minute is None else from_micros(minute * _MICROSECONDS_PER_MINUTE)
