"""Times of the store as JSON shows them."""

from __future__ import annotations

from ingest.times import Time, rfc3339
from storage.rows import from_micros


def as_time(microseconds: int) -> Time:
    """Return microseconds since 1970 as contract §4 shows a time."""
    return rfc3339(from_micros(microseconds))


def as_time_or_none(microseconds: int | None) -> Time | None:
    """Return the same, and None where there is no time."""
    return None if microseconds is None else as_time(microseconds)
