"""Which ways brought the events of an hour, where the same events come several ways, and what each way missed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any, Literal, NamedTuple

from msgspec import Struct
from sqlalchemy import ColumnElement, Connection, func, select

from ingest.times import Time
from storage.books.transits import quantile
from storage.intervals import HOUR_MICROS
from storage.queries.page import Page, PageKeys, PageSpan, ordered
from storage.queries.times import as_time
from storage.rows import to_micros
from storage.tables import comparisons, transits

USUAL_GRACE_SECONDS = 300.0
Miss = Literal["lost", "late"]


class Transit(Struct, frozen=True, kw_only=True):
    """The seconds within which half and 99 of 100 of a way's arrivals came, from `published_at` on; within a tenth."""

    p50: float
    p99: float


class ComparisonRow(Struct, frozen=True, kw_only=True):
    """The events of a source in an hour that certain ways brought within the grace, and no others.

    `modes` names these ways: another source's of the same product is `label:mode`. Where all of them are named,
    `events` may be 0. `missed`: the ways that did not bring them. What a way missed is `late` while its p99 in that
    hour is beyond the grace, else `lost` by that way. `id` is the hour, in hours since 1970: pages go on by it.
    """

    id: int
    hour: Time
    source: str
    modes: str
    events: int
    missed: Mapping[str, Miss]
    transit: Mapping[str, Transit]


EXAMPLE = ComparisonRow(
    id=495_904,
    hour="2026-07-28T16:00:00.000Z",
    source="fleet",
    modes="sse",
    events=3,
    missed={"webhook": "lost"},
    transit={"webhook": Transit(p50=0.1147, p99=0.7104), "sse": Transit(p50=0.0797, p99=0.3426)},
)


class ComparisonFilter(NamedTuple):
    """Which rows; None is all. An hour is there where any of it lies between `since` and `until`."""

    source: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """Return what the rows have to fulfil."""
        hour, found = comparisons.c.hour, list[ColumnElement[bool]]()
        if self.source is not None:
            found.append(comparisons.c.source == self.source)
        if self.since is not None:
            found.append(hour >= to_micros(self.since) // HOUR_MICROS)
        if self.until is not None:
            found.append(hour * HOUR_MICROS < to_micros(self.until))
        return found


def comparison_page(
    connection: Connection, wanted: ComparisonFilter, span: PageSpan, graces: Mapping[str, float]
) -> Page[ComparisonRow]:
    """Return whole hours, as many as have `limit` rows together, but at least one. `graces`: seconds, by source."""
    keys = _hours(connection, wanted, span)
    if not keys.keys:
        return keys.page([], span)
    found = select(comparisons).where(comparisons.c.hour.in_(keys.keys), *wanted.conditions())
    rows = sorted(connection.execute(found), key=attrgetter("hour", "source", "modes"), reverse=span.descending)
    ways: dict[tuple[int, str], list[str]] = {}
    for row in rows:
        known = ways.setdefault((row.hour, row.source), [])
        known += [way for way in row.modes.split("+") if way not in known]
    times = _times(connection, keys.keys)
    return keys.page([_row(row, ways[row.hour, row.source], times, graces) for row in rows], span)


def _hours(connection: Connection, wanted: ComparisonFilter, span: PageSpan) -> PageKeys:
    query = select(comparisons.c.hour, func.count()).where(comparisons.c.hour > span.after, *wanted.conditions())
    if span.before is not None:
        query = query.where(comparisons.c.hour < span.before)
    grouped = ordered(query.group_by(comparisons.c.hour), comparisons.c.hour, span).limit(span.limit + 1)
    hours, rows = list[int](), 0
    for hour, count in connection.execute(grouped):
        rows += count
        if hours and rows > span.limit:
            return PageKeys(hours, more=True)
        hours.append(hour)
    return PageKeys(hours, more=False)


def _times(connection: Connection, hours: Sequence[int]) -> dict[tuple[int, str, str], Transit]:
    """Return how long arrivals took, by hour, source and mode."""
    counts: dict[tuple[int, str, str], dict[int, int]] = {}
    for hour, source, mode, bucket, events in connection.execute(select(transits).where(transits.c.hour.in_(hours))):
        counts.setdefault((hour, source, mode), {})[bucket] = events
    return {key: Transit(p50=quantile(of_way, 0.5), p99=quantile(of_way, 0.99)) for key, of_way in counts.items()}


def _row(
    row: Any,
    ways: Sequence[str],
    times: Mapping[tuple[int, str, str], Transit],
    graces: Mapping[str, float],
) -> ComparisonRow:
    took = {}
    for way in ways:
        source, _, mode = way.rpartition(":")
        if (transit := times.get((row.hour, source or row.source, mode))) is not None:
            took[way] = transit
    grace = graces.get(row.source, USUAL_GRACE_SECONDS)
    brought = row.modes.split("+")
    return ComparisonRow(
        id=row.hour,
        hour=as_time(row.hour * HOUR_MICROS),
        source=row.source,
        modes=row.modes,
        events=row.events,
        missed={way: _miss(took.get(way), grace) for way in ways if way not in brought},
        transit=took,
    )


def _miss(transit: Transit | None, grace: float) -> Miss:
    return "late" if transit is not None and transit.p99 > grace else "lost"
