"""The consequences of observations of one device or many: ranges of numbers as they are now, and counts."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from typing import NamedTuple


class LossState(StrEnum):
    """The state of numbers that did not come in their turn."""

    MISSING = "missing"
    LOST = "lost"
    RECOVERED = "recovered"


class LossRange(NamedTuple):
    """Numbers `first` to `last` of a device, as it sends them. Their ids are `id` and the next ones, each its own.

    `source` revealed that they are missing, at `noticed_at`; they are lost at `due_at`. Microseconds since 1970.
    """

    id: int
    source: str
    product: str
    device: str
    first: int
    last: int
    state: LossState
    noticed_at: int
    due_at: int


class Changes:
    """What observations led to, until it is written: `ranges` by id (None: no range begins there any more).

    `missing` are differences, the others are counts; all by source. `next_id` is for the next number that is missing.
    """

    def __init__(self, next_id: int) -> None:
        self.next_id = next_id
        self.ranges: dict[int, LossRange | None] = {}
        self.missing: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()
        self.ambiguous: Counter[str] = Counter()
        self.recovered: Counter[tuple[str, LossState]] = Counter()

    def allot(self, count: int) -> int:
        """Return the first of as many ids in a row."""
        id_ = self.next_id
        self.next_id += count
        return id_

    def merge_recovered(self) -> None:
        """Make one range of recovered ones that follow one another: a queue that a device sends late is many."""
        last: LossRange | None = None
        for id_, found in sorted(self.ranges.items()):
            if found is None or found.state is not LossState.RECOVERED:
                last = None
            elif last is not None and _follows(last, found):
                last = self.ranges[last.id] = last._replace(last=found.last)
                self.ranges[id_] = None
            else:
                last = found


def _follows(last: LossRange, found: LossRange) -> bool:
    return (
        found.id == last.id + last.last - last.first + 1
        and found.first == last.last + 1
        and (found.source, found.product, found.device, found.noticed_at)
        == (last.source, last.product, last.device, last.noticed_at)
    )
