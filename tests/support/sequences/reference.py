"""Reckons with sets of numbers what the tracker reckons with ranges. Imports nothing of the product."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Arrival(NamedTuple):
    """Number `number` of a device's run `run`, not wrapped, that comes at `at` seconds."""

    run: int
    number: int
    at: float


@dataclass(frozen=True, slots=True)
class Account:
    """The numbers of each run that are missing or lost at the end, and those that were recovered, by what they were."""

    missing: set[tuple[int, int]]
    lost: set[tuple[int, int]]
    recovered: dict[str, set[tuple[int, int]]]


def reckon(arrivals: Sequence[Arrival], *, first: int | None, grace: float, end: float) -> Account:
    """What lies between two numbers of a run that came, or before the first of one that begins near `first`."""
    came: dict[int, set[int]] = {}
    bounds: dict[int, tuple[int, int]] = {}
    noticed: dict[tuple[int, int], float] = {}
    recovered: dict[str, set[tuple[int, int]]] = {"missing": set(), "lost": set()}
    for run, number, at in arrivals:
        begins = number if first is None or not 0 <= number - first < 1000 else first - 1
        low, high = bounds.setdefault(run, (begins, begins))
        known = came.setdefault(run, {begins})
        if number not in known and (run, number) in noticed:
            recovered["lost" if at >= noticed[run, number] + grace else "missing"].add((run, number))
        known.add(number)
        for hole in (set(range(high + 1, number)) | set(range(number + 1, low))) - known:
            noticed[run, hole] = at
        bounds[run] = (min(low, number), max(high, number))
    open_ = {(run, number): at for (run, number), at in noticed.items() if number not in came[run]}
    lost = {key for key, at in open_.items() if end >= at + grace}
    return Account(open_.keys() - lost, lost, recovered)
