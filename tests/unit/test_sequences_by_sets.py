"""The tracker, which reckons with ranges, comes to the same as sets of numbers in any order."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.sequences.reference import Arrival, reckon
from tests.support.sequences.tracked import Tracked

GRACE = 100
NUMBERS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 60), st.integers(0, 40)), min_size=1, max_size=80)


def arrivals_of(drawn: list[tuple[int, int, int]], start: int) -> list[Arrival]:
    """Numbers of runs, with the seconds since the one before."""
    at, arrivals = 0, []
    for run, number, later in drawn:
        at += later
        arrivals.append(Arrival(run, start + number, at))
    return arrivals


def compare(device: Tracked, arrivals: list[Arrival], first: int | None, modulus: int | None, wait: int) -> None:
    """What is missing, lost and recovered is what the sets say."""
    end = arrivals[-1].at + wait
    account = reckon(arrivals, first=first, grace=GRACE, end=end)
    device.expire(end)

    def shown(numbers: set[tuple[int, int]]) -> list[int]:
        return sorted(number % (modulus or 2**62) for _, number in numbers)

    assert sorted(device.numbers("missing")) == shown(account.missing)
    assert sorted(device.numbers("lost")) == shown(account.lost)
    for before in ("missing", "lost"):
        assert device.counts[f"recovered from {before}"] == len(account.recovered[before])


@given(NUMBERS, st.sampled_from([None, 128, 200]), st.integers(0, 250), st.booleans(), st.integers(0, 200))
@settings(max_examples=300, deadline=None)
def test_runs_with_epochs(
    drawn: list[tuple[int, int, int]], modulus: int | None, start: int, begins: bool, wait: int
) -> None:
    """Runs, orders, duplicates, wraps, beginnings: all is as the sets say, and nothing is ambiguous."""
    start = start if modulus else 1
    first = start if begins and (modulus is None or start + 61 < modulus) else None  # no run begins behind a wrap
    arrivals = arrivals_of(drawn, start)
    device = Tracked(by_epoch=True, first=first, modulus=modulus, grace=GRACE)

    for run, number, at in arrivals:
        device.see(number % (modulus or 2**62), at=at, epoch=run)

    compare(device, arrivals, first, modulus, wait)
    assert device.counts["ambiguous"] == 0


@given(NUMBERS, st.sampled_from([None, 128, 200]), st.integers(0, 250), st.integers(0, 200))
@settings(max_examples=300, deadline=None)
def test_one_run_without_epochs(drawn: list[tuple[int, int, int]], modulus: int | None, start: int, wait: int) -> None:
    """A device that does not restart: as long as its run is young or none is below its first, sets say the same."""
    numbers = [(0, number + 1, later) for _, number, later in drawn]
    arrivals = arrivals_of([(0, 0, 0), *numbers], start)
    device = Tracked(modulus=modulus, grace=GRACE)

    for _, number, at in arrivals:
        device.see(number % (modulus or 2**62), at=at)

    compare(device, arrivals, None, modulus, wait)
