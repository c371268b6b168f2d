"""The time that nobody covered, computed from intervals of listening: pure, in microseconds since 1970."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

# Where one stream takes over from another, an event that was under way may reach neither, unless both listened that
# long together.
SEAM_MICROS = 1_000_000
HOUR_MICROS = 3_600_000_000


@dataclass(frozen=True, slots=True)
class Stretch:
    """From `since` up to `until`, in microseconds since 1970."""

    since: int
    until: int


def uncovered(intervals: Iterable[Stretch]) -> list[Stretch]:
    """Return what no interval covers between the first beginning and the last end.

    Sorted, disjoint, none of them empty.

    Where two intervals overlap by less than SEAM_MICROS and no third one bridges them, the overlap is uncovered too.
    """
    holes: list[Stretch] = []
    reach: int | None = None
    for interval in sorted(intervals, key=lambda interval: (interval.since, -interval.until)):
        if reach is not None and interval.until <= reach:
            continue
        if reach is not None and interval.since > reach - SEAM_MICROS:
            _append(holes, Stretch(min(reach, interval.since), max(reach, interval.since)))
        reach = interval.until
    return holes


def subtract(stretches: Iterable[Stretch], known: Iterable[Stretch]) -> list[Stretch]:
    """Return what of the stretches lies in none of the known ones, in order; neither need be sorted or disjoint."""
    left = list(stretches)
    for taken in known:
        left = [piece for stretch in left for piece in _without(stretch, taken)]
    return sorted(left, key=lambda stretch: stretch.since)


def length(stretches: Iterable[Stretch]) -> int:
    """Return how long disjoint stretches are together."""
    return sum(stretch.until - stretch.since for stretch in stretches)


def by_hours(stretch: Stretch) -> Iterator[tuple[int, int]]:
    """Yield each hour that a stretch touches, in hours since 1970, and how much of it that is."""
    since = stretch.since
    while since < stretch.until:
        hour = since // HOUR_MICROS
        until = min((hour + 1) * HOUR_MICROS, stretch.until)
        yield hour, until - since
        since = until


def after(stretches: Iterable[Stretch], instant: int) -> list[Stretch]:
    """Return what of the stretches lies behind an instant."""
    return [Stretch(max(stretch.since, instant), stretch.until) for stretch in stretches if stretch.until > instant]


def _append(holes: list[Stretch], hole: Stretch) -> None:
    """Add a hole that begins no earlier than the last one, as one with it where they touch."""
    if holes and hole.since <= holes[-1].until:
        holes[-1] = Stretch(holes[-1].since, max(holes[-1].until, hole.until))
    elif hole.since < hole.until:
        holes.append(hole)


def _without(stretch: Stretch, taken: Stretch) -> list[Stretch]:
    pieces = (
        Stretch(stretch.since, min(stretch.until, taken.since)),
        Stretch(max(stretch.since, taken.until), stretch.until),
    )
    return [piece for piece in pieces if piece.since < piece.until]
