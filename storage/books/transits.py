"""How long arrivals were on their way, in steps that are a fifth apart: from a millisecond to a month.

Of compared sources only (storage/books/comparison.py).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from itertools import accumulate

from sqlalchemy import Connection, func, select

from storage import bulk
from storage.books import TRANSITS
from storage.books.place import move_place, take_place
from storage.books.ways import ComparedSource, Way, place_of
from storage.intervals import HOUR_MICROS
from storage.tables import events, sightings, transits
from storage.transactions import transaction

_STEP = 1.2
_LAST = 120  # 1.2 to the 120th milliseconds are five weeks
_STEP_ARRIVALS = 512
_COLUMNS = ("hour", "source", "mode", "bucket", "events")
_ADD_UP = "ON CONFLICT (hour, source, mode, bucket) DO UPDATE SET events = transits.events + excluded.events"

Times = Counter[tuple[int, str, str, int]]
"""Arrivals by the hour of their event, source, mode and step."""


def bucket_of(micros: int) -> int:
    """Return the step of a time in microseconds; what came before it was sent, by unlike clocks, is in the first."""
    milliseconds = micros / 1000
    return 0 if milliseconds < 1 else min(int(math.log(milliseconds, _STEP)) + 1, _LAST)


def seconds_of(bucket: int) -> float:
    """Return the middle of a step, in seconds."""
    return float(_STEP ** (bucket - 0.5)) / 1000


def quantile(counts: Mapping[int, int], share: float) -> float:
    """Return the seconds within which that share of the arrivals came, about. Raises ValueError where there were none.

    `counts`: arrivals by step.
    """
    wanted = share * sum(counts.values())
    seen = accumulate(counts[bucket] for bucket in sorted(counts))
    reached = min(bucket for bucket, so_far in zip(sorted(counts), seen, strict=True) if so_far >= wanted)
    return round(seconds_of(reached), 4)


def add_times(connection: Connection, times: Times) -> None:
    """Add to what the books say of transits."""
    rows = [(*key, number) for key, number in sorted(times.items())]
    bulk.insert(connection, transits, _COLUMNS, rows, _ADD_UP)


@transaction
def time_some(connection: Connection, sources: tuple[ComparedSource, ...]) -> int:
    """Post how long the next further arrivals were on their way, however late they are; return how many those were.

    The first one of an event by each other way, by the hour of the event: what comes late speaks for the hour in which
    it is missed.
    """
    place = place_of(TRANSITS, sources)
    newest = connection.execute(select(func.max(sightings.c.id))).scalar() or 0
    after = take_place(connection, place, begin=newest)
    earlier = sightings.alias()
    is_first = ~(
        select(earlier.c.id)
        .where(earlier.c.position == sightings.c.position, earlier.c.id < sightings.c.id)
        .where(earlier.c.source == sightings.c.source, earlier.c.mode == sightings.c.mode)
        .exists()
    )
    columns = (sightings.c.id, sightings.c.position, sightings.c.source, sightings.c.mode, sightings.c.received_at)
    following = select(*columns, is_first).where(sightings.c.id > after).order_by(sightings.c.id).limit(_STEP_ARRIVALS)
    rows = connection.execute(following).all()
    if not rows:
        return 0
    firsts = _events_at(connection, sources, sorted({row.position for row in rows}))
    times = Times()
    for _, position, source, mode, at, first in rows:
        hour, published_at, way = firsts.get(position, (0, 0, Way(source, mode)))
        if first and way != (source, mode):
            times[hour, source, mode, bucket_of(at - published_at)] += 1
    add_times(connection, times)
    move_place(connection, place, rows[-1].id)
    return len(rows)


def _events_at(
    connection: Connection, sources: tuple[ComparedSource, ...], positions: list[int]
) -> dict[int, tuple[int, int, Way]]:
    """Return the hour, the time of publication and the way of those events that are compared and still here."""
    at = (events.c.position.in_(positions), events.c.position.between(positions[0], positions[-1]))
    ours = (events.c.source.in_([source.label for source in sources]), events.c.published_at.is_not(None))
    columns = (events.c.position, events.c.received_at, events.c.published_at, events.c.source, events.c.mode)
    found = connection.execute(select(*columns).where(*at, *ours))
    return {position: (seen // HOUR_MICROS, sent, Way(source, mode)) for position, seen, sent, source, mode in found}
