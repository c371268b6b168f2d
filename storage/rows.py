"""Values to rows and back: the only place that knows how an Event or a Reject lies in its table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, cast
from uuid import UUID

import msgspec

from ingest.event import Event, Reason, Reject
from ingest.times import EPOCH
from storage.tables import events

EVENT_COLUMNS = tuple(column.name for column in events.columns)
REJECT_COLUMNS = ("source", "mode", "received_at", "reason", "body", "attributes", "headers", "element")

_write_json = msgspec.json.Encoder().encode
_read_attributes = msgspec.json.Decoder(dict[str, str]).decode


def to_micros(at: datetime) -> int:
    """Return the microseconds since 1970 of an aware datetime."""
    since = at - EPOCH
    return since.days * 86_400_000_000 + since.seconds * 1_000_000 + since.microseconds


def from_micros(microseconds: int) -> datetime:
    """Return the aware UTC datetime of microseconds since 1970."""
    return EPOCH + timedelta(microseconds=microseconds)


def sixteen_bytes(id_: UUID) -> bytes:
    """Return an id as SQLite keeps it: `UUID.bytes` in half of its time."""
    return id_.int.to_bytes(16, "big")


def event_row(event: Event, *, sqlite: bool) -> tuple[Any, ...]:
    """Return a row in the order of EVENT_COLUMNS, as the driver takes it."""
    return (
        event.position,
        sixteen_bytes(event.id) if sqlite else event.id,
        event.product,
        event.device,
        event.name,
        event.data,
        event.content_type,
        None if event.published_at is None else to_micros(event.published_at),
        to_micros(event.received_at),
        event.source,
        event.mode,
        _attributes_text(event.attributes),
        event.stream,
    )


def event_of(row: Any) -> Event:
    """Return the Event of a row of EVENT_COLUMNS."""
    position, id_, product, device, name, data, content_type, published_at, received_at, *rest = row
    source, mode, attributes, stream = rest
    return Event(
        id=id_,
        product=product,
        device=device,
        name=name,
        data=data,
        content_type=content_type,
        published_at=None if published_at is None else from_micros(published_at),
        received_at=from_micros(received_at),
        source=source,
        mode=mode,
        attributes={} if attributes == "{}" else _attributes_of(attributes),
        stream=stream,
        position=position,
    )


def reject_row(reject: Reject) -> tuple[Any, ...]:
    """Return a row in the order of REJECT_COLUMNS."""
    return (
        reject.source,
        reject.mode,
        to_micros(reject.received_at),
        reject.reason.value,
        reject.body,
        _attributes_text(reject.attributes) if reject.attributes else None,
        _attributes_text(reject.headers) if reject.headers else None,
        reject.element,
    )


def reject_of(row: Any) -> Reject:
    """Return the Reject of a row of `rejects`."""
    return Reject(
        source=row.source,
        mode=row.mode,
        received_at=from_micros(row.received_at),
        reason=Reason(row.reason),
        body=row.body,
        attributes=None if row.attributes is None else _attributes_of(row.attributes),
        headers=None if row.headers is None else _attributes_of(row.headers),
        element=row.element,
    )


def _attributes_text(attributes: Mapping[str, str]) -> str:
    if not attributes:
        return "{}"
    try:
        return _write_json(attributes).decode()
    except ValueError:  # a lone surrogate: only the escaped form can be stored as text
        return json.dumps(dict(attributes))


def _attributes_of(text: str) -> Mapping[str, str]:
    try:
        return _read_attributes(text)
    except ValueError:  # the escaped form of a lone surrogate, which msgspec does not read
        return cast("dict[str, str]", json.loads(text))
