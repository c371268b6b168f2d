"""Anything compared is measured in turns within one run, and the median counts."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from typing import TypeVar

T = TypeVar("T")


def all_in_turns(subjects: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """Measure A, B, C, C, B, A, A … so that neither a slow minute nor what went before harms one more than another."""
    found: dict[str, list[T]] = {name: [] for name in subjects}
    for number in range(rounds):
        for name in list(subjects)[:: -1 if number % 2 else 1]:
            found[name].append(subjects[name]())
    return found


def in_turns(subjects: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Return the median of each subject, measured in turns."""
    return {name: statistics.median(rates) for name, rates in all_in_turns(subjects, rounds).items()}
