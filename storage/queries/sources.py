"""What each source brought, over all processes and restarts: the committed tallies and the time that was covered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, case, func, select

from ingest.event import Mode
from storage.rows import moment
from storage.tables import coverage, tallies

_MICROSECONDS_PER_MINUTE = 60_000_000


@dataclass(frozen=True, slots=True)
class SourceTotals:
    """One source and mode. `counts` are by outcome, and `expired`; `last_minute` is the last one with traffic.

    `covered_since` and `covered_until` are the ends of the time in which any of its streams was listening.
    """

    source: str
    mode: Mode
    counts: Mapping[str, int]
    last_minute: datetime | None
    covered_since: datetime | None
    covered_until: datetime | None


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
            *(source, Mode(mode), counts.get((source, mode), {})),
            _minute(minutes.get((source, mode))),
            *covered.get((source, mode), (None, None)),
        )
        for source, mode in sorted(counts.keys() | covered.keys())
    ]


def _covered(connection: Connection) -> dict[tuple[str, str], tuple[datetime, datetime]]:
    ends = select(coverage.c.source, coverage.c.mode, func.min(coverage.c.since), func.max(coverage.c.until)).group_by(
        coverage.c.source, coverage.c.mode
    )
    return {(source, mode): (moment(since), moment(until)) for source, mode, since, until in connection.execute(ends)}


def _minute(minute: int | None) -> datetime | None:
    return None if minute is None else moment(minute * _MICROSECONDS_PER_MINUTE)
