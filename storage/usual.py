"""The rate at which a source and mode usually brings events: at the time of the day, on the days before."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import Connection, func, select

from ingest.event import Outcome
from storage.intervals import HOUR_MICROS, Stretch, by_hours, length
from storage.other_modes import reaching
from storage.tables import coverage, gaps, tallies

if TYPE_CHECKING:
    from storage.gaps import SourceKey

WIDEST_MINUTES = 365 * 24 * 60  # that a tally stands for
_MINUTE_MICROS = 60_000_000
_DAY_HOURS = 24
_DAYS = 7
_LEAST_MICROS = 1_000_000  # of less than a second nothing is usual
_LEAST_HOUR_MICROS = 60_000_000  # and of less than a minute nothing at that time of the day
# A redundant copy is the event that the other stream brought: it would have been lost once.
_ARRIVALS = (Outcome.STORED.value, Outcome.REDELIVERY.value, Outcome.OVERLAP.value)

_Tally = tuple[int, int, int]  # the first minute, for how many it stands, and arrivals


@dataclass(frozen=True, slots=True)
class UsualRates:
    """Arrivals in a covered microsecond, by the hour of the day (UTC), and `otherwise` where none of these is known."""

    by_hour: Mapping[int, float]
    otherwise: float

    def expected(self, stretches: Iterable[Stretch]) -> float:
        """Return how many usually come in some stretches."""
        return sum(
            micros * self.by_hour.get(hour % _DAY_HOURS, self.otherwise)
            for stretch in stretches
            for hour, micros in by_hours(stretch)
        )


def usual_rates(connection: Connection, key: SourceKey, until: int) -> UsualRates:
    """Return what was usual before a time, in microseconds.

    For each hour of the day that of the seven days before, as far as the source was covered then; where it was not on
    any of them, that of the 24 hours before; 0 where nothing is known of these either.
    """
    if (oldest := _oldest(connection, key)) is None:
        return UsualRates({}, 0.0)
    end = until // HOUR_MICROS * HOUR_MICROS
    week = Stretch(max(oldest, end - _DAYS * _DAY_HOURS * HOUR_MICROS), end)
    day = Stretch(max(oldest, until - _DAY_HOURS * HOUR_MICROS), until)
    first = min(week.since, day.since)
    silent, arrived = _silent(connection, key, first, until), _arrived(connection, key, Stretch(first, until))
    covered = length([day]) - length(_within(gap, day) for gap in silent)
    otherwise = _arrivals(arrived, day) / covered if covered >= _LEAST_MICROS else 0.0
    return UsualRates(_by_hour(week, silent, arrived), otherwise)


def _by_hour(week: Stretch, silent: Sequence[Stretch], arrived: Sequence[_Tally]) -> dict[int, float]:
    """Return the rates of those hours of the day that were covered. Nothing arrives while nobody listens."""
    covered, came = Counter[int](), defaultdict[int, float](float)
    for hour, micros in by_hours(week):
        covered[hour % _DAY_HOURS] += micros
    for gap in silent:
        for hour, micros in by_hours(_within(gap, week)):
            covered[hour % _DAY_HOURS] -= micros
    first, end = week.since // HOUR_MICROS, week.until // HOUR_MICROS
    for minute, minutes, count in arrived:
        for hour in range(max(minute // 60, first), min((minute + minutes - 1) // 60 + 1, end)):
            came[hour % _DAY_HOURS] += count * min(60, minutes) / minutes  # all of it, or an hour's share
    return {hour: came[hour] / micros for hour, micros in covered.items() if micros >= _LEAST_HOUR_MICROS}


def _within(stretch: Stretch, bounds: Stretch) -> Stretch:
    since = max(stretch.since, bounds.since)
    return Stretch(since, max(since, min(stretch.until, bounds.until)))


def _oldest(connection: Connection, key: SourceKey) -> int | None:
    """Return when the oldest interval began; None where there is none."""
    oldest = (
        select(coverage.c.since)
        .where(coverage.c.source == key.source, coverage.c.mode == key.mode)
        .order_by(coverage.c.until)
        .limit(1)
    )
    return connection.execute(oldest).scalar_one_or_none()


def _silent(connection: Connection, key: SourceKey, since: int, until: int) -> list[Stretch]:
    """Return the gaps that are over and reach into a stretch of time."""
    query = select(gaps.c.since, gaps.c.until).where(
        *reaching(key, since), gaps.c.since < until, gaps.c.until.is_not(None)
    )
    return [Stretch(*row) for row in connection.execute(query)]


def _arrived(connection: Connection, key: SourceKey, within: Stretch) -> list[_Tally]:
    """Return the arrivals of the minutes that a stretch touches, as they were tallied."""
    first, last = within.since // _MINUTE_MICROS, within.until // _MINUTE_MICROS
    query = (
        select(tallies.c.minute, tallies.c.minutes, func.sum(tallies.c.count))
        .where(
            tallies.c.source == key.source,
            tallies.c.mode == key.mode,
            tallies.c.minute.between(first - WIDEST_MINUTES, last),
            tallies.c.minute + tallies.c.minutes > first,
            tallies.c.outcome.in_(_ARRIVALS),
        )
        .group_by(tallies.c.minute, tallies.c.minutes)
    )
    return [(minute, minutes, int(count)) for minute, minutes, count in connection.execute(query)]


def _arrivals(arrived: Iterable[_Tally], within: Stretch) -> float:
    """Return how many arrived in the minutes that a stretch touches.

    Of a tally that stands for many minutes, the share of those that it touches.
    """
    first, last = within.since // _MINUTE_MICROS, within.until // _MINUTE_MICROS
    shares = (
        count * max(min(minute + minutes, last + 1) - max(minute, first), 0) / minutes
        for minute, minutes, count in arrived
    )
    return sum(shares)
