"""What the other modes of a source covered while one did not listen: the same events come by each of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, Connection, Table, func, select

from storage.clock import database_now
from storage.intervals import Stretch, length, subtract
from storage.tables import coverage, gaps, tallies

if TYPE_CHECKING:
    from storage.gaps import SourceKey

_MINUTE_MICROS = 60_000_000
_DAY_MINUTES = 24 * 60
# By so much the record of who listens may lag behind: it is written every two seconds, and a busy store takes its time.
_LATE_MICROS = 20_000_000


def missed_by_all(connection: Connection, key: SourceKey, gap: Stretch) -> list[Stretch]:
    """Return what of a gap no other mode of the source covered. A queue covers all: it keeps what nobody takes."""
    left = [gap]
    now = database_now(connection)
    for other in _others(connection, key):
        if _is_queue(connection, other, gap):
            return []
        left = subtract(left, _covered(connection, other, gap, now))
    return left


def suspected_by_others(connection: Connection, key: SourceKey, missed: Sequence[Stretch]) -> float:
    """Return how much of the same time is counted by gaps of the source's other modes that are over."""
    counted = 0.0
    for other in _others(connection, key):
        overlapping = select(gaps.c.since, gaps.c.until, gaps.c.suspected).where(
            *reaching(other, missed[0].since), gaps.c.since < missed[-1].until, gaps.c.suspected > 0
        )
        for since, until, suspected in connection.execute(overlapping.where(gaps.c.until.is_not(None))).all():
            its = missed_by_all(connection, other, Stretch(since, until))
            if its:
                counted += suspected * (1 - length(subtract(its, missed)) / length(its))
    return counted


def _others(connection: Connection, key: SourceKey) -> Iterator[SourceKey]:
    """Yield the other modes by which the source ever listened or was brought something."""
    modes = {mode for table in (coverage, tallies) for mode in _modes(connection, table, key.source)}
    return (key._replace(mode=mode) for mode in sorted(modes - {key.mode}))


def _modes(connection: Connection, table: Table, source: str) -> Iterator[str]:
    """Yield each mode of a source once, by one look into the index for each."""
    mode: str | None = ""
    while (
        mode := connection.execute(
            select(func.min(table.c.mode)).where(table.c.source == source, table.c.mode > mode)
        ).scalar()
    ) is not None:
        yield mode


def _is_queue(connection: Connection, key: SourceKey, gap: Stretch) -> bool:
    """Return whether a mode that brought something within a day keeps no record of listening: it needs none."""
    if connection.execute(select(coverage.c.id).where(*_of(coverage, key)).limit(1)).first() is not None:
        return False
    minute = gap.since // _MINUTE_MICROS
    recent = tallies.c.minute.between(minute - _DAY_MINUTES, gap.until // _MINUTE_MICROS)
    return connection.execute(select(tallies.c.minute).where(*_of(tallies, key), recent).limit(1)).first() is not None


def _covered(connection: Connection, key: SourceKey, gap: Stretch, now: int) -> list[Stretch]:
    """Return the intervals of a mode that reach into a gap; one that goes on reaches until now."""
    of = select(coverage.c.since, coverage.c.until).where(*_of(coverage, key), coverage.c.since < gap.until)
    ended = connection.execute(of.where(coverage.c.ended, coverage.c.until > gap.since)).all()
    going_on = connection.execute(of.where(~coverage.c.ended)).all()
    return [Stretch(since, until) for since, until in ended] + [
        Stretch(since, now if until >= now - _LATE_MICROS else until) for since, until in going_on
    ]


def reaching(key: SourceKey, start: int) -> tuple[ColumnElement[bool], ...]:
    """Match the rows that reach beyond `start`.

    As rows do not overlap, of those that began before `start` only the last one can reach beyond it.
    """
    before = select(func.max(gaps.c.since)).where(*_of(gaps, key), gaps.c.since <= start).scalar_subquery()
    return *_of(gaps, key), gaps.c.since >= func.coalesce(before, start)


def _of(table: Table, key: SourceKey) -> tuple[ColumnElement[bool], ...]:
    return table.c.source == key.source, table.c.mode == key.mode
