"""Events by filter and by id. A device's page is read block by block from one index, however many events there are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from msgspec import Struct, structs
from sqlalchemy import ColumnElement, Connection, func, literal, select, true

from ingest import event_json
from ingest.event import Event
from ingest.event_json import EventJson
from ingest.times import Time
from storage.queries import event_deliveries
from storage.queries.event_deliveries import ConfiguredHandler, EventDelivery, deliveries_of
from storage.queries.page import Page, PageSpan, ordered, select_keys
from storage.queries.times import as_time
from storage.rows import event_of, to_micros
from storage.tables import BLOCK_BITS, block, events, head, sightings

# Up to this many ids in a stretch of time, reading them through the id index and sorting beats walking by position.
_FEW_IDS = 10_000
# What senders choose the size of.
CONTENTS = tuple(events.c[name] for name in ("data", "attributes", "name", "device", "product", "content_type"))
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


def head_position(connection: Connection) -> int:
    """Return the highest position that was ever given."""
    return int(connection.execute(select(head.c.position)).scalar_one())


def events_page(connection: Connection, wanted: EventFilter, span: PageSpan) -> Page[EventJson]:
    """Return the events of a span that pass the filter."""
    read_to = head_position(connection)  # first: whatever commits after this is for the next page
    stretch = _id_stretch(wanted)
    conditions = [*_conditions(wanted), events.c.position <= read_to]
    key: ColumnElement[int] = events.c.position
    parts: Iterable[ColumnElement[bool]] = (true(),)
    if wanted.device is not None:
        first = connection.execute(select(func.min(key))).scalar() or 0
        parts = _blocks(max(span.after + 1, first), _ceiling(read_to, span), descending=span.descending)
    elif stretch and _few(connection, stretch):
        conditions, key = [*conditions[:-1], key + 0 <= read_to, *stretch], key + 0  # hides the key's own index
    keys = select_keys(connection, key, CONTENTS, conditions, span, parts)
    rows = _events_at(connection, keys.keys, span)
    return keys.page(rows, span, key="position", read_to=_ceiling(read_to, span))


def stored_event(connection: Connection, id_: UUID) -> Event | None:
    """Return an event; None where there is none of this id."""
    row = connection.execute(select(events).where(events.c.id == id_)).one_or_none()
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


def _blocks(first: int, last: int, *, descending: bool) -> Iterator[ColumnElement[bool]]:
    """Yield the blocks from one position to another, a few and then ever more at a time, in the order of reading.

    A device with many events has a page in the first blocks; one with hardly any is looked for in hundreds at once.
    """
    blocks = range(first >> BLOCK_BITS, (last >> BLOCK_BITS) + 1)
    if descending:
        blocks = blocks[::-1]
    start, count = 0, 1
    while start < len(blocks):
        yield block.in_(blocks[start : start + count])
        start, count = start + count, min(count * 2, _MOST_BLOCKS)


def _ceiling(read_to: int, span: PageSpan) -> int:
    return read_to if span.before is None else min(read_to, span.before - 1)


def _events_at(connection: Connection, positions: Sequence[int], span: PageSpan) -> list[EventJson]:
    if not positions:
        return []
    query = select(events).where(events.c.position.in_(positions))
    return [event_json.event_json(event_of(row)) for row in connection.execute(ordered(query, events.c.position, span))]


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


def _id_stretch(wanted: EventFilter) -> list[ColumnElement[bool]]:
    """Return which ids events of that time have: ids begin with published_at in milliseconds, 0 before 1970."""
    stretch: list[ColumnElement[bool]] = []
    if wanted.since is not None and (since := to_micros(wanted.since) // 1000) > 0:
        stretch.append(events.c.id >= UUID(int=since << 80))
    if wanted.until is not None:
        stretch.append(events.c.id < UUID(int=(max(to_micros(wanted.until) // 1000, 0) + 1) << 80))
    return stretch


def _few(connection: Connection, stretch: Sequence[ColumnElement[bool]]) -> bool:
    some = select(literal(1)).select_from(events).where(*stretch).limit(_FEW_IDS + 1).subquery()
    return connection.execute(select(func.count()).select_from(some)).scalar_one() <= _FEW_IDS
