"""What becomes of each record of a batch, and the rows that follow from it, by what is there already.

Pure: no database is asked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

import msgspec

from ingest.event import Event, Ignored, Mode, Outcome, Record, Reject
from storage.rows import to_micros

First = tuple[int, str, str, int]  # position, source, mode and stream of an event that is there already
MessageKey = tuple[str, str, str]  # product, device and message


@dataclass(slots=True)
class Sorted:
    """The outcome of each record of a batch, and the rows that follow from it. `messages`: with their positions."""

    outcomes: list[Outcome] = field(default_factory=list)
    stored: list[Event] = field(default_factory=list)
    messages: list[tuple[str, str, str, int]] = field(default_factory=list)
    sightings: list[tuple[int, str, str, int]] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    echoes: list[Ignored] = field(default_factory=list)


def message_key(event: Event) -> MessageKey:
    """Return what tells the message of an event that has a number of its device's."""
    return event.product, event.device or "", event.message or ""


def sort_out(
    records: Sequence[Record], known: dict[int, First], messages: dict[MessageKey, int], position: int
) -> Sorted:
    """Give new events the positions after `position`; a second copy in the batch is a duplicate like any other.

    `messages`: the positions of those that are there already.
    """
    rows = Sorted()
    for record in records:
        if isinstance(record, Event):
            first = known.get(record.id.int)
            if first is not None:
                rows.outcomes.append(_duplicate(record, first))
                rows.sightings.append(_sighting(record, first[0]))
                continue
            if record.message is not None:
                key = message_key(record)
                if (sent_at := messages.get(key)) is not None:
                    rows.outcomes.append(Outcome.RESEND)
                    rows.sightings.append(_sighting(record, sent_at))
                    continue
                messages[key] = position + 1
                rows.messages.append((*key, position + 1))
            position += 1
            known[record.id.int] = (position, record.source, record.mode, record.stream)
            rows.stored.append(msgspec.structs.replace(record, position=position))
            rows.outcomes.append(Outcome.STORED)
        elif isinstance(record, Reject):
            rows.rejects.append(record)
            rows.outcomes.append(Outcome.REJECTED)
        else:
            if record.echo is not None:
                rows.echoes.append(record)
            rows.outcomes.append(Outcome.IGNORED)
    return rows


def _sighting(record: Event, position: int) -> tuple[int, str, str, int]:
    return position, record.source, record.mode, to_micros(record.received_at)


def _duplicate(record: Event, first: First) -> Outcome:
    """Return what kind of duplicate a later copy is, by the way the first one came."""
    _, source, mode, stream = first
    if (source, mode) != (record.source, record.mode):
        return Outcome.OVERLAP
    return Outcome.REDELIVERY if stream == record.stream else Outcome.REDUNDANT


def tally(records: Sequence[Record], outcomes: Sequence[Outcome], now: int) -> list[tuple[str, str, int, str, int]]:
    """Return rows of TALLY_COLUMNS. Counted by runs, for a batch is mostly one: a third of what a Counter takes."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for (source, mode, outcome), run in groupby(zip(records, outcomes, strict=True), _whose):
        counts[source, mode, outcome.value] += sum(1 for _ in run)
    minute = now // 60_000_000
    return [(source, mode, minute, outcome, count) for (source, mode, outcome), count in sorted(counts.items())]


def _whose(settled: tuple[Record, Outcome]) -> tuple[str, Mode, Outcome]:
    record, outcome = settled
    return record.source, record.mode, outcome
