"""Sources: what each brought, over all processes and restarts: the committed tallies and the time that was covered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, case, func, select

from ingest.event import Mode
from ingest.times import rfc3339
from storage.clock import database_now
from storage.gaps import SourceKey, open_gaps
from storage.queries.gaps import OpenGap
from storage.rows import from_micros, to_micros
from storage.tables import coverage, gaps, tallies

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

    `covered` is None where it never listened, and where nobody keeps a record of it. `open_gap` is the one that lasts.
    """

    source: str
    mode: Mode
    counts: Mapping[str, int]
    last_minute: datetime | None
    covered: Covered | None
    open_gap: OpenGap | None


def source_totals(connection: Connection) -> list[SourceTotals]:
    """Return every source and mode that ever committed or listened, sorted."""
    counts: dict[SourceKey, dict[str, int]] = {}
    minutes: dict[SourceKey, int] = {}
    arrived = case((tallies.c.outcome != "expired", tallies.c.minute))
    by_outcome = select(
        tallies.c.source, tallies.c.mode, tallies.c.outcome, func.sum(tallies.c.count), func.max(arrived)
    ).group_by(tallies.c.source, tallies.c.mode, tallies.c.outcome)
    for source, mode, outcome, count, minute in connection.execute(by_outcome):
        key = SourceKey(source, mode)
        counts.setdefault(key, {})[outcome] = int(count)
        if minute is not None:
            minutes[key] = max(minute, minutes.get(key, minute))
    covered, lasting = _covered(connection), _lasting(connection)
    return [
        SourceTotals(
            *(key.source, Mode(key.mode), counts.get(key, {})),
            _minute(minutes.get(key)),
            covered.get(key),
            lasting.get(key),
        )
        for key in sorted(counts.keys() | covered.keys())
    ]


def _lasting(connection: Connection) -> dict[SourceKey, OpenGap]:
    now = database_now(connection)
    return {
        key: OpenGap(
            since=rfc3339(gap.since), cause=gap.cause.value, seconds=max(now - to_micros(gap.since), 0) / 1_000_000
        )
        for key, gap in open_gaps(connection).items()
    }


def _covered(connection: Connection) -> dict[SourceKey, Covered]:
    key = coverage.c.source, coverage.c.mode
    ends = select(*key, func.min(coverage.c.since), func.max(coverage.c.until)).group_by(*key)
    last_gaps, open_ = _last_gaps(connection), _open_intervals(connection)
    found: dict[SourceKey, Covered] = {}
    for source, mode, since, until in connection.execute(ends):
        of = SourceKey(source, mode)
        unbroken_since = from_micros(max(since, last_gaps.get(of, since)))
        found[of] = Covered(from_micros(since), from_micros(until), unbroken_since, open_.get(of, ()))
    return found


def _last_gaps(connection: Connection) -> dict[SourceKey, int]:
    """Return when the last gap of each source and mode ended, among those that are over."""
    way = gaps.c.source, gaps.c.mode
    ends = select(*way, func.max(gaps.c.until)).where(gaps.c.until.is_not(None)).group_by(*way)
    return {SourceKey(source, mode): until for source, mode, until in connection.execute(ends)}


def _open_intervals(connection: Connection) -> dict[SourceKey, list[OpenInterval]]:
    found: dict[SourceKey, list[OpenInterval]] = {}
    query = select(coverage).where(~coverage.c.ended).order_by(coverage.c.stream, coverage.c.id)
    rows = connection.execute(query).all()
    now = database_now(connection)
    for row in rows:
        silent = max(now - row.until, 0) / 1_000_000
        interval = OpenInterval(row.stream, from_micros(row.since), from_micros(row.until), silent)
        found.setdefault(SourceKey(row.source, row.mode), []).append(interval)
    return found


def _minute(minute: int | None) -> datetime | None:
    return None if minute is None else from_micros(minute * _MICROSECONDS_PER_MINUTE)
