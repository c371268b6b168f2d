"""The gaps of a source and mode are in order and apart, none ends before it begins, and only the last one is open."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection, func, or_, select

from storage.gaps import SourceKey
from storage.tables import coverage, gaps
from storage.verify.finding import Finding, rows_at

_OPEN = 2**63 - 1  # the end of a gap that lasts
_MOST = 100  # of each kind


def count(connection: Connection) -> int:
    """Return how many gaps there are."""
    return int(connection.execute(select(func.count()).select_from(gaps)).scalar_one())


def count_intervals(connection: Connection) -> int:
    """Return how many intervals of coverage there are."""
    return int(connection.execute(select(func.count()).select_from(coverage)).scalar_one())


def order(connection: Connection) -> Iterator[Finding]:
    """Yield each gap that ends before it begins, or begins before the ones before it are over."""
    ends = func.coalesce(gaps.c.until, _OPEN)
    whose, when = (gaps.c.source, gaps.c.mode), (gaps.c.since, gaps.c.id)
    before = func.max(ends).over(partition_by=whose, order_by=when, rows=(None, -1))
    each = select(gaps, before.label("reach")).subquery()
    wrong = or_(each.c.since < each.c.reach, each.c.until < each.c.since)
    for gap in connection.execute(select(each).where(wrong).order_by(each.c.id).limit(_MOST)):
        if gap.until is not None and gap.until < gap.since:
            why = "it ends before it begins"
        elif gap.reach == _OPEN:
            why = "it begins after one that is open"
        else:
            why = "it begins before the one before it is over"
        yield _wrong(SourceKey(gap.source, gap.mode), f"{rows_at('gaps', [gap.id], 'id')}: {why}")


def intervals(connection: Connection) -> Iterator[Finding]:
    """Yield each interval of coverage that ends before it begins."""
    wrong = select(coverage).where(coverage.c.until < coverage.c.since).order_by(coverage.c.id).limit(_MOST)
    for interval in connection.execute(wrong):
        look_at = f"{rows_at('coverage', [interval.id], 'id')}: it ends before it begins"
        yield _wrong(SourceKey(interval.source, interval.mode), look_at)


def _wrong(key: SourceKey, look_at: str) -> Finding:
    return Finding(check="gaps", source=key.source, mode=key.mode, difference=1, look_at=look_at)
