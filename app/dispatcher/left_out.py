"""The positions that were read and are in no lane: not for the handler, gone before, or delivered before."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ingest.event import Event


class _Run(NamedTuple):
    """Positions up to `last` without a wanted one between them, as far as the cursor has to account for them."""

    last: int
    unmatched: int
    skipped: int


class LeftOut:
    """Counts of what the cursor will pass without delivering it. `had`: what an earlier holder delivered already."""

    def __init__(self, had: Iterable[int] = ()) -> None:
        self._had = sorted(had)
        self._is_had = frozenset(self._had)
        self._runs: deque[_Run] = deque()

    def select(self, after: int, events: Sequence[Event], wanted: Sequence[Event]) -> Sequence[Event]:
        """Return those of `wanted` that were not delivered before; note all else of `events`, read behind `after`.

        Positions are dense: where one is missing, retention took its event.
        """
        if self._is_had:
            wanted = [event for event in wanted if event.position not in self._is_had]
        last = events[-1].position or 0
        if len(wanted) < last - after:
            self._note(after, events, {event.position for event in wanted})
        return wanted

    def pass_to(self, position: int) -> tuple[int, int]:
        """Return how many unmatched and skipped positions there are up to one that the cursor goes to now."""
        unmatched = skipped = 0
        while self._runs and self._runs[0].last <= position:
            run = self._runs.popleft()
            unmatched, skipped = unmatched + run.unmatched, skipped + run.skipped
        return unmatched, skipped

    def give_back(self, position: int, unmatched: int, skipped: int) -> None:
        """Take back what could not be saved."""
        if unmatched or skipped:
            self._runs.appendleft(_Run(position, unmatched, skipped))

    def had_beyond(self, position: int) -> Sequence[int]:
        """Return what was delivered before and is still to be passed, ascending."""
        return self._had[bisect_right(self._had, position) :] if self._had else ()

    def _note(self, after: int, events: Sequence[Event], wanted: set[int | None]) -> None:
        before, unmatched, skipped = after, 0, 0
        if self._runs and self._runs[-1].last == after:  # nothing wanted since
            _, unmatched, skipped = self._runs.pop()
        for event in events:
            position = event.position or 0
            skipped += self._missing(before, position)
            before = position
            if position in wanted:
                self._add(position - 1, unmatched, skipped)
                unmatched = skipped = 0
            elif position not in self._is_had:
                unmatched += 1
        self._add(before, unmatched, skipped)

    def _add(self, last: int, unmatched: int, skipped: int) -> None:
        if unmatched or skipped:
            self._runs.append(_Run(last, unmatched, skipped))

    def _missing(self, before: int, position: int) -> int:
        if position == before + 1:
            return 0
        return sum(each not in self._is_had for each in range(before + 1, position))
