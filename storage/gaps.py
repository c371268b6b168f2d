"""Gap rows: found, written and closed within a transaction, with the number of events that each may have cost.

The rows of a source and mode never overlap.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, delete, insert, select, update

from ingest.coverage import Gap
from ingest.event import Cause
from storage.intervals import Stretch, subtract
from storage.other_modes import missed_by_all, suspected_by_others
from storage.other_modes import reaching as _reaching
from storage.rows import from_micros
from storage.tables import gaps
from storage.usual import usual_rates


class SourceKey(NamedTuple):
    """Whose gaps: a source and one of its modes."""

    source: str
    mode: str


@dataclass(frozen=True, slots=True)
class Known:
    """The gap rows of a stretch of time: closed ones, and since when one is open."""

    closed: Sequence[Stretch]
    open_since: int | None


def known_gaps(connection: Connection, key: SourceKey, start: int) -> Known:
    """Return the gap rows of a source and mode that reach beyond `start`."""
    query = select(gaps.c.since, gaps.c.until).where(*_reaching(key, start)).order_by(gaps.c.since)
    rows = connection.execute(query).all()
    still_open = [since for since, until in rows if until is None]
    closed = [Stretch(since, until) for since, until in rows if until is not None]
    return Known(closed, still_open[0] if still_open else None)


def open_gaps(connection: Connection) -> dict[SourceKey, Gap]:
    """Return the gap that lasts of each source and mode that has one."""
    query = select(gaps).where(gaps.c.until.is_(None)).order_by(gaps.c.source, gaps.c.mode)
    return {
        SourceKey(row.source, row.mode): Gap(from_micros(row.since), None, Cause(row.cause), row.suspected)
        for row in connection.execute(query)
    }


def begin_gap(connection: Connection, key: SourceKey, since: int, cause: Cause) -> Gap:
    """Write a gap that lasts."""
    connection.execute(insert(gaps).values(_row(key, since, None, cause, 0.0)))
    return Gap(from_micros(since), None, cause, 0.0)


def add_gaps(connection: Connection, key: SourceKey, stretches: Iterable[Stretch], cause: Cause) -> list[Gap]:
    """Write gaps that are over already."""
    added = []
    for stretch in stretches:
        suspected = _suspected(connection, key, stretch)
        connection.execute(insert(gaps).values(_row(key, stretch.since, stretch.until, cause, suspected)))
        added.append(Gap(from_micros(stretch.since), from_micros(stretch.until), cause, suspected))
    return added


def close_gaps(connection: Connection, key: SourceKey, until: int) -> list[Gap]:
    """End the gap that lasts, if there is one; never before it began."""
    query = select(gaps.c.id, gaps.c.since, gaps.c.cause).where(*_of(key), gaps.c.until.is_(None))
    ended = []
    for id_, since, cause in connection.execute(query).all():
        stretch = Stretch(since, max(since, until))
        suspected = _suspected(connection, key, stretch)
        closing = update(gaps).where(gaps.c.id == id_).values(until=stretch.until, suspected=suspected)
        connection.execute(closing)
        ended.append(Gap(from_micros(stretch.since), from_micros(stretch.until), Cause(cause), suspected))
    return ended


def retract_gaps(connection: Connection, key: SourceKey, listened: Stretch) -> None:
    """Take back what was written as a gap, and turns out to lie in a stretch in which a stream listened."""
    reaching = select(gaps).where(*_reaching(key, listened.since), gaps.c.since < listened.until)
    for row in connection.execute(reaching).all():
        gap = Stretch(row.since, listened.until if row.until is None else row.until)
        left = subtract([gap], [listened])
        if left == [gap]:
            continue
        connection.execute(delete(gaps).where(gaps.c.id == row.id))
        add_gaps(connection, key, left, Cause(row.cause))


def _row(key: SourceKey, since: int, until: int | None, cause: Cause, suspected: float) -> dict[str, object]:
    return {
        "source": key.source,
        "mode": key.mode,
        "since": since,
        "until": until,
        "cause": cause.value,
        "suspected": suspected,
    }


def _of(key: SourceKey) -> tuple[ColumnElement[bool], ...]:
    return gaps.c.source == key.source, gaps.c.mode == key.mode


def _suspected(connection: Connection, key: SourceKey, gap: Stretch) -> float:
    """Return how many events usually come in the time that no mode of the source covered (storage/usual.py).

    What the gaps of the source's other modes count already is left out.
    """
    if not (missed := missed_by_all(connection, key, gap)):
        return 0.0
    expected = usual_rates(connection, key, gap.since).expected(missed)
    return max(expected - suspected_by_others(connection, key, missed), 0.0) if expected else 0.0
