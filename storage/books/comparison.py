"""Which ways brought each event, for sources that have several: what one brought and another did not was lost by that.

An event is compared when the grace of its source is over, in the order of commit. Its further arrivals are timed
however late they come: so what a way has not brought yet is told from what it lost (storage/queries/comparison.py).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple

import structlog
from sqlalchemy import BigInteger, ColumnElement, Connection, case, delete, func, literal, select

from ingest.errors import StoreUnavailable
from ingest.leases import Lease
from storage import bulk
from storage.books import COMPARISON, TRANSITS
from storage.books.place import move_place, take_place
from storage.books.posting import REST, STEP_EVENTS
from storage.books.transits import Times, add_times, bucket_of, time_some
from storage.books.ways import ComparedSource, Way, place_of
from storage.engine import Database
from storage.gently import write_gently
from storage.head import head_position
from storage.intervals import HOUR_MICROS
from storage.rows import to_micros
from storage.tables import comparisons, cursors, events, sightings, transits
from storage.transactions import transaction

_EVERY_SECONDS = 2.0
_FORGOTTEN_HOURS = 100  # in one step
_COLUMNS = ("hour", "source", "modes", "events")
_ADD_UP = "ON CONFLICT (hour, source, modes) DO UPDATE SET events = comparisons.events + excluded.events"

log = structlog.get_logger(__name__)


class Compared(NamedTuple):
    """The result of a step: how far it came on, and how many events of which source were brought by which ways."""

    moved: int
    seen: Sequence[tuple[str, str, int]] = ()


class Comparison:
    """Compares while the lease is this process's. Two at once would do no harm: each waits for the other's step.

    `count` is told what was posted: source, ways, events. Where what is compared changes, it begins anew: of events
    before that nobody knows which ways there were.
    """

    def __init__(
        self,
        database: Database,
        sources: tuple[ComparedSource, ...],
        clock: Callable[[], datetime],
        count: Callable[[str, str, int], None] = lambda _source, _modes, _events: None,
        lease: Lease | None = None,
        every_seconds: float = _EVERY_SECONDS,
    ) -> None:
        self._database = database
        self._sources = sources
        self._clock = clock
        self._count = count
        self._lease = lease or Lease(held=True)
        self._every_seconds = every_seconds

    async def run(self) -> None:
        """Compare now and again until cancelled. Where there is nothing to compare, return."""
        begun = False
        while not begun or self._sources:
            await self._lease.acquired()
            try:
                if not begun:
                    await self._database.write(_forget_places, self._sources)
                    begun = True
                if self._sources:
                    await self.post_all()
            except StoreUnavailable as error:
                log.warning("comparison_failed", error=str(error))
            await asyncio.sleep(self._every_seconds)

    async def post_all(self) -> None:
        """Post all that is due. Raises StoreUnavailable."""
        database, sources = self._database, self._sources
        while (compared := await write_gently(database, REST, compare_some, sources, to_micros(self._clock()))).moved:
            for source, modes, number in compared.seen:
                self._count(source, modes, number)
        while await write_gently(database, REST, time_some, sources):
            pass


@transaction
def compare_some(connection: Connection, sources: tuple[ComparedSource, ...], now: int) -> Compared:
    """Compare the next events whose grace is over."""
    place, last = place_of(COMPARISON, sources), head_position(connection)
    after = take_place(connection, place, begin=last)
    within = (events.c.position > after, events.c.position <= after + STEP_EVENTS)
    ours = (*within, events.c.source.in_([source.label for source in sources]))
    # An event of the future was stamped by a clock that was wrong: nobody waits for it.
    graces = {source.label: literal(source.grace, BigInteger) for source in sources}
    grace = case(graces, value=events.c.source)
    age = now - events.c.received_at
    first = connection.execute(select(func.min(events.c.position)).where(*ours, age < grace, age > -grace)).scalar()
    end = min(last, after + STEP_EVENTS) if first is None else first - 1
    if end <= after:
        return Compared(0)
    seen = _compare(connection, sources, (*ours, events.c.position <= end), after, end)
    move_place(connection, place, end)
    return Compared(end - after, seen)


def _compare(
    connection: Connection,
    sources: tuple[ComparedSource, ...],
    which: tuple[ColumnElement[bool], ...],
    after: int,
    end: int,
) -> list[tuple[str, str, int]]:
    """Add up the ways of some events, and how long each was on its way; return how many were brought by which."""
    by_label = {source.label: source for source in sources}
    further = _further(connection, after, end)
    columns = (events.c.position, events.c.received_at, events.c.published_at, events.c.source, events.c.mode)
    brought, times = Counter[tuple[int, str, str]](), Times()
    for position, at, published_at, label, mode in connection.execute(select(*columns).where(*which)):
        source, hour = by_label[label], at // HOUR_MICROS
        ways = {Way(label, mode)} | {way for way, seen_at in further.get(position, ()) if seen_at <= at + source.grace}
        brought[hour, label, source.names(ways)] += 1
        brought[hour, label, source.names(source.ways)] += 0  # tells which ways there were, also where one is dead
        if published_at is not None:
            times[hour, label, mode, bucket_of(at - published_at)] += 1
    rows = [(*key, number) for key, number in sorted(brought.items())]
    bulk.insert(connection, comparisons, _COLUMNS, rows, _ADD_UP)
    add_times(connection, times)
    return [(source, modes, number) for _, source, modes, number in rows if number]


def _further(connection: Connection, after: int, end: int) -> dict[int, list[tuple[Way, int]]]:
    """Return by which ways the events of some positions came again, and when."""
    columns = (sightings.c.position, sightings.c.source, sightings.c.mode, sightings.c.received_at)
    found: dict[int, list[tuple[Way, int]]] = {}
    within = (sightings.c.position > after, sightings.c.position <= end)
    for position, source, mode, at in connection.execute(select(*columns).where(*within)):
        found.setdefault(position, []).append((Way(source, mode), at))
    return found


@transaction
def _forget_places(connection: Connection, sources: tuple[ComparedSource, ...]) -> None:
    """Forget how far others came, who compared other ways: whoever compares these again begins anew."""
    for kind in (COMPARISON, TRANSITS):
        others = (cursors.c.handler.startswith(kind, autoescape=True), cursors.c.handler != place_of(kind, sources))
        connection.execute(delete(cursors).where(*others))


def forget(connection: Connection, before: int) -> int:
    """Forget some hours that were over before a time, in microseconds; return how many rows went."""
    gone = 0
    for table in (comparisons, transits):
        oldest = connection.execute(select(func.min(table.c.hour))).scalar()
        if oldest is not None:
            end = min(before // HOUR_MICROS, oldest + _FORGOTTEN_HOURS)
            gone += connection.execute(delete(table).where(table.c.hour < end)).rowcount
    return gone
