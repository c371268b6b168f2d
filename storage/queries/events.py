"""Events by filter and by id. A device's page is read from an index by device where there is one, else by blocks."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from msgspec import Struct, structs
from sqlalchemy import ColumnElement, Connection, and_, func, select

from ingest import event_json
from ingest.event import Event
from ingest.event_json import EventJson
from ingest.times import Time
from storage import by_device
from storage.events_at import events_at
from storage.head import head_position
from storage.queries import event_deliveries
from storage.queries.event_deliveries import ConfiguredHandler, EventDelivery, deliveries_of
from storage.queries.page import Page, PageSpan, Part, select_keys
from storage.queries.times import as_time
from storage.rows import event_of, to_micros
from storage.tables import BLOCK_BITS, block, events, ids_of, sightings

# Up to this many ids in a stretch of time, reading them through the id index and sorting beats walking by position.
_FEW_IDS = 10_000
# What senders choose the size of.
CONTENTS = tuple(events.c[name] for name in ("data", "attributes", "name", "device", "product", "content_type"))
_CHUNK = 500  # positions in one statement
_SPAN = 1 << 18  # positions that are looked through first
_GROWTH = 4
_MOST_BLOCKS = 512  # in one statement


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events: all that is given must hold. `name` is a prefix; since ≤ published_at < until.

    An event without published_at is in no stretch of time.
    """

    product: str | None = None
    device: str | None = None
    name: str | None = None
    source: str | None = None
    since: datetime | None = None
    until: datetime | None = None


class Sighting(Struct, frozen=True, kw_only=True):
    """A further arrival of an event that was there already."""

    source: str
    mode: str
    received_at: Time


class EventInFull(EventJson, frozen=True, kw_only=True):
    """One event, who else saw it, and what became of it at each handler."""

    sightings: list[Sighting]
    deliveries: list[EventDelivery]


def _in_full(event: EventJson, seen: list[Sighting], handed_on: list[EventDelivery]) -> EventInFull:
    return EventInFull(**structs.asdict(event), sightings=seen, deliveries=handed_on)


EXAMPLE = _in_full(
    event_json.EXAMPLE,
    [Sighting(source="fleet", mode="webhook", received_at="2026-07-28T16:53:35.911Z")],
    [event_deliveries.EXAMPLE],
)


def events_page(connection: Connection, wanted: EventFilter, span: PageSpan) -> Page[EventJson]:
    """Return the events of a span that pass the filter."""
    read_to = head_position(connection)  # first: whatever commits after this is for the next page
    conditions = [*_conditions(wanted), events.c.position <= read_to]
    key = events.c.position
    parts: Iterable[Part]
    if wanted.device is not None:
        parts = _of_device(connection, span.after + 1, _ceiling(read_to, span), descending=span.descending)
    elif (few := _few_within(connection, wanted)) is not None:
        parts = _chunks(few, span)
    else:
        parts = _spans(span.after + 1, _ceiling(read_to, span), descending=span.descending)
    keys = select_keys(connection, key, CONTENTS, conditions, span, parts)
    found = events_at(connection, keys.keys)
    rows = [event_json.event_json(found[position]) for position in keys.keys if position in found]
    return keys.page(rows, span, key="position", read_to=_ceiling(read_to, span))


def stored_event(connection: Connection, id_: UUID) -> Event | None:
    """Return an event; None where there is none of this id."""
    known = ids_of(connection.dialect.name)
    position = connection.execute(select(known.c.position).where(known.c.id == id_)).scalar()
    row = connection.execute(select(events).where(events.c.position == position, events.c.id == id_)).one_or_none()
    return None if row is None else event_of(row)


def event_by_id(connection: Connection, id_: UUID, configured: Sequence[ConfiguredHandler] = ()) -> EventInFull | None:
    """Return an event with its further arrivals in the order they were committed; None where there is no such event.

    And with what became of it at each handler that is configured or ever ran.
    """
    event = stored_event(connection, id_)
    if event is None:
        return None
    further = (
        select(sightings.c.source, sightings.c.mode, sightings.c.received_at)
        .where(sightings.c.position == event.position)
        .order_by(sightings.c.id)
    )
    seen = [
        Sighting(source=source, mode=mode, received_at=as_time(at)) for source, mode, at in connection.execute(further)
    ]
    return _in_full(event_json.event_json(event), seen, deliveries_of(connection, event, configured))


def _of_device(connection: Connection, first: int, last: int, *, descending: bool) -> Iterator[Part]:
    """Yield as one part what has an index by device, and the rest by blocks, in the order of reading."""
    indexed_before = by_device.indexed_before(connection)
    if not indexed_before:
        first = max(first, connection.execute(select(func.min(events.c.position))).scalar() or 0)
    indexed = Part(events.c.position < indexed_before)
    if indexed_before > first and not descending:
        yield indexed
    yield from _blocks(max(first, indexed_before), last, descending=descending)
    if indexed_before > first and descending:
        yield indexed


def _blocks(first: int, last: int, *, descending: bool) -> Iterator[Part]:
    """Yield the blocks from one position to another, a few and then ever more at a time, in the order of reading.

    A device with many events has a page in the first blocks; one with hardly any is looked for in hundreds at once.
    Not in the order of the key's own index: that leads through all devices.
    """
    blocks = range(first >> BLOCK_BITS, (last >> BLOCK_BITS) + 1)
    if descending:
        blocks = blocks[::-1]
    start, count = 0, 1
    while start < len(blocks):
        some = blocks[start : start + count]
        # PostgreSQL has partitions by position.
        bounds = max(first, min(some) << BLOCK_BITS), (max(some) + 1) << BLOCK_BITS
        within = and_(block.in_(some), events.c.position >= bounds[0], events.c.position < bounds[1])
        yield Part(within, apart=True)
        start, count = start + count, min(count * _GROWTH, _MOST_BLOCKS)


def _spans(first: int, last: int, *, descending: bool) -> Iterator[Part]:
    """Yield ever longer spans from one position to another, in the order of reading.

    A page is mostly full after the first; of many partitions PostgreSQL then looks at one or two.
    """
    count = _SPAN
    while first <= last:
        if descending:
            yield Part(and_(events.c.position > last - count, events.c.position <= last))
            last -= count
        else:
            yield Part(and_(events.c.position >= first, events.c.position < first + count))
            first += count
        count *= _GROWTH


def _ceiling(read_to: int, span: PageSpan) -> int:
    return read_to if span.before is None else min(read_to, span.before - 1)


def _conditions(wanted: EventFilter) -> list[ColumnElement[bool]]:
    equal = ((events.c.product, wanted.product), (events.c.device, wanted.device), (events.c.source, wanted.source))
    conditions: list[ColumnElement[bool]] = [column == value for column, value in equal if value is not None]
    if wanted.name:  # neither LIKE (SQLite's knows no case) nor a range (a collation may sort otherwise) is a prefix
        conditions.append(func.substr(events.c.name, 1, len(wanted.name)) == wanted.name)
    if wanted.since is not None:
        conditions.append(events.c.published_at >= to_micros(wanted.since))
    if wanted.until is not None:
        conditions.append(events.c.published_at < to_micros(wanted.until))
    return conditions


def _id_stretch(wanted: EventFilter) -> tuple[UUID | None, UUID | None]:
    """Return from and up to which ids the events of that time have: they begin with published_at in milliseconds.

    Before 1970 with 0. None where there is no bound.
    """
    first = last = None
    if wanted.since is not None and (since := to_micros(wanted.since) // 1000) > 0:
        first = UUID(int=since << 80)
    if wanted.until is not None:
        last = UUID(int=(max(to_micros(wanted.until) // 1000, 0) + 1) << 80)
    return first, last


def _few_within(connection: Connection, wanted: EventFilter) -> list[int] | None:
    """Return the positions of the events of that time; None where they are many, or all."""
    first, last = _id_stretch(wanted)
    if first is None and last is None:
        return None
    known = ids_of(connection.dialect.name)
    query = select(known.c.position).limit(_FEW_IDS + 1)
    if first is not None:
        query = query.where(known.c.id >= first)
    if last is not None:
        query = query.where(known.c.id < last)
    found = list(connection.execute(query.order_by(known.c.id)).scalars())
    return sorted(found) if len(found) <= _FEW_IDS else None


def _chunks(positions: Sequence[int], span: PageSpan) -> Iterator[Part]:
    """Yield some positions at a time, in the order of reading."""
    end = None if span.before is None else bisect_left(positions, span.before)
    within = positions[bisect_right(positions, span.after) : end]
    if span.descending:
        within = within[::-1]
    for start in range(0, len(within), _CHUNK):
        yield Part(events.c.position.in_(within[start : start + _CHUNK]))
