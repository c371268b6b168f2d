"""Runs of positions as text: the distance to each run and its length, by turns, which takes few digits."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

Run = tuple[int, int]  # the first and the last position


def runs_of(positions: Iterable[int]) -> list[Run]:
    """Return ascending positions as runs."""
    runs: list[Run] = []
    for position in positions:
        if runs and runs[-1][1] == position - 1:
            runs[-1] = (runs[-1][0], position)
        else:
            runs.append((position, position))
    return runs


def positions_of(runs: Iterable[Run]) -> set[int]:
    """Return each position of some runs."""
    return {position for first, last in runs for position in range(first, last + 1)}


def write_runs(after: int, runs: Sequence[Run]) -> str | None:
    """Return ascending runs behind the position `after` as text; None where there are none."""
    numbers: list[int] = []
    for first, last in runs:
        numbers += (first - after, last - first + 1)
        after = last
    return json.dumps(numbers, separators=(",", ":")) if numbers else None


def read_runs(after: int, text: str | None) -> list[Run]:
    """Return the runs that `write_runs` wrote."""
    numbers = json.loads(text) if text else []
    runs: list[Run] = []
    for distance, length in zip(numbers[::2], numbers[1::2], strict=True):
        first = after + distance
        after = first + length - 1
        runs.append((first, after))
    return runs
