"""What is handed to the inbox at once, and what it weighs there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from ingest.event import Event, Outcome, Record, Reject

_RECORD_BYTES = 600  # what a record weighs in memory besides its data and attributes
_ATTRIBUTE_BYTES = 150  # what an attribute weighs besides its characters

Settled = Callable[[Sequence[Outcome]], None]


class Submission:
    """Records that commit together, and who is to be told: `settled` is called exactly once after it was submitted.

    What is `held` will not be sent again by anybody: it waits for room and for the store as long as that takes.
    """

    __slots__ = ("bytes", "entered", "held", "overdue", "records", "settled")

    def __init__(self, records: Sequence[Record], settled: Settled, *, held: bool = False) -> None:
        self.records = records
        self.settled = settled
        self.held = held
        self.bytes = sum(map(weight, records))
        self.overdue: asyncio.TimerHandle | None = None
        self.entered: asyncio.Future[None] | None = None  # where somebody waits for it to leave the line


def weight(record: Record) -> int:
    """About how many bytes of memory a record holds."""
    if isinstance(record, Event):
        data = record.data
    elif isinstance(record, Reject):
        data = record.body
    else:
        return _RECORD_BYTES
    size = _RECORD_BYTES + (len(data) if data else 0)
    attributes = record.attributes
    if not attributes:
        return size
    characters = sum(map(len, attributes)) + sum(map(len, attributes.values()))
    return size + _ATTRIBUTE_BYTES * len(attributes) + characters
