"""The values of coverage: a gap, and an interval that began."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from ingest.event import Cause


@dataclass(frozen=True, slots=True)
class Gap:
    """A stretch in which nothing of a source and mode was listening; `until` is None while it lasts.

    `suspected` is how many events it may have cost: its length times the usual rate; 0 while it lasts.
    """

    since: datetime
    until: datetime | None
    cause: Cause
    suspected: float


@dataclass(frozen=True, slots=True)
class Opened:
    """An interval that began, and what that did to the gaps: `ended` was open until now, `found` was not known."""

    interval: int
    ended: Sequence[Gap]
    found: Sequence[Gap]
