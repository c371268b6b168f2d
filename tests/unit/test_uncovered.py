"""Time that nobody covered, from intervals of listening: by example, and as laws over any intervals."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.intervals import SEAM_MICROS, Stretch, after, subtract, uncovered

TICK = SEAM_MICROS // 4  # coarse, so that ends meet and overlaps are around a second
stretches = st.lists(
    st.builds(
        lambda since, length: Stretch(since * TICK, (since + length) * TICK), st.integers(0, 60), st.integers(0, 30)
    ),
    max_size=8,
)


def seconds(*pairs: tuple[float, float]) -> list[Stretch]:
    """Stretches given in seconds."""
    return [Stretch(round(since * 1e6), round(until * 1e6)) for since, until in pairs]


def inside(instant: int, within: Iterable[Stretch]) -> bool:
    """Whether an instant lies in one of the stretches."""
    return any(stretch.since <= instant < stretch.until for stretch in within)


@pytest.mark.parametrize(
    ("intervals", "holes"),
    [
        pytest.param([], [], id="nothing"),
        pytest.param([(0, 100)], [], id="one"),
        pytest.param([(0, 100), (103, 200)], [(100, 103)], id="hole"),
        pytest.param([(0, 100), (99, 200)], [], id="a second together"),
        pytest.param([(0, 100), (99.5, 200)], [(99.5, 100)], id="seam"),
        pytest.param([(0, 100), (100, 200)], [], id="ends meet: no time is lost between them"),
        pytest.param([(0, 100), (99.5, 200), (50, 150)], [], id="a third one bridges the seam"),
        pytest.param([(0, 100), (98, 100.1), (99.5, 200)], [(99.5, 100.1)], id="a third one that does not"),
        pytest.param([(0, 100), (0, 0.5)], [], id="a short one inside another"),
        pytest.param([(0, 10), (20, 20), (30, 40)], [(10, 30)], id="an interval of no length covers nothing"),
        pytest.param([(0, 100), (103, 200), (0, 95)], [(100, 103)], id="the second stream was deaf since 95"),
    ],
)
def test_examples(intervals: list[tuple[float, float]], holes: list[tuple[float, float]]) -> None:
    """Holes and seams are uncovered; what bridges them covers them; the order in which they are told does not count."""
    assert uncovered(seconds(*intervals)) == seconds(*holes)
    assert uncovered(seconds(*reversed(intervals))) == seconds(*holes)


@given(stretches)
def test_what_is_in_no_interval_is_uncovered(intervals: list[Stretch]) -> None:
    """Between the first beginning and the last end, an instant that no interval holds is in a hole."""
    holes = uncovered(intervals)
    first = min((interval.since for interval in intervals), default=0)
    last = max((interval.until for interval in intervals), default=0)
    for instant in range(first, last, TICK):
        assert inside(instant, intervals) or inside(instant, holes)
    assert all(first <= hole.since and hole.until <= last for hole in holes)


@given(stretches)
def test_what_is_uncovered_is_in_no_interval_or_in_a_seam(intervals: list[Stretch]) -> None:
    """Nothing is called uncovered without a reason: nobody listened, or two for less than a second together."""
    seams = [
        Stretch(max(a.since, b.since), min(a.until, b.until))
        for a, b in combinations(intervals, 2)
        if min(a.until, b.until) - max(a.since, b.since) < SEAM_MICROS
    ]
    for hole in uncovered(intervals):
        for instant in range(hole.since, hole.until, TICK):
            assert not inside(instant, intervals) or inside(instant, seams)


@given(stretches)
def test_deep_inside_an_interval_all_is_covered(intervals: list[Stretch]) -> None:
    """A second away from both ends of an interval, no other one can make a hole."""
    deep = [Stretch(interval.since + SEAM_MICROS, interval.until - SEAM_MICROS + 1) for interval in intervals]
    for hole in uncovered(intervals):
        assert not any(inside(instant, deep) for instant in range(hole.since, hole.until, TICK))


@given(stretches)
def test_holes_are_in_order_and_apart(intervals: list[Stretch]) -> None:
    """Holes are sorted, not empty, and do not touch; the order of the intervals does not count."""
    holes = uncovered(intervals)
    assert all(hole.since < hole.until for hole in holes)
    assert all(one.until < other.since for one, other in pairwise(holes))
    assert uncovered(intervals[::-1]) == holes


@given(stretches, stretches, st.integers(0, 90))
def test_nothing_is_left_twice_and_nothing_is_taken_that_was_not_known(
    intervals: list[Stretch], known: list[Stretch], instant: int
) -> None:
    """Subtracting leaves exactly what is not known; `after` exactly what lies behind an instant."""
    holes = uncovered(intervals)
    left = subtract(holes, known)
    behind = after(holes, instant * TICK)
    for at in range(0, 100 * TICK, TICK):
        assert inside(at, left) == (inside(at, holes) and not inside(at, known))
        assert inside(at, behind) == (inside(at, holes) and at >= instant * TICK)
    assert all(piece.since < piece.until for piece in (*left, *behind))
