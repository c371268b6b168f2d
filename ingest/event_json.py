"""An event as JSON, as every way out of Headrace shows it: API, live streams, handlers and command line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType

from ingest.event import Event
from ingest.identity import decode_data_url
from ingest.times import Time, rfc3339

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class EventJson(Struct, frozen=True, kw_only=True):
    """One event. `data` is text exactly as sent; `data_base64` stands in its place where it is bytes."""

    id: Annotated[UUID, Meta(description="the same whichever way and however often the event comes")]
    position: Annotated[int | None, Meta(description="the order of commit")]
    product: str
    device: str | None
    name: str
    data: str | UnsetType | None = UNSET
    data_base64: Annotated[bytes, Meta(description="bytes that are no UTF-8, and base64 data URLs")] | UnsetType = UNSET
    content_type: str | None
    published_at: Time | None
    received_at: Time
    source: str
    mode: str
    attributes: Mapping[str, str]


def event_json(event: Event) -> EventJson:
    """Return the event as contract §4 shows it; msgspec can always encode it."""
    data = _data(event.data)
    return EventJson(
        id=event.id,
        position=event.position,
        product=event.product,
        device=event.device,
        name=event.name,
        data=UNSET if isinstance(data, bytes) else data,
        data_base64=data if isinstance(data, bytes) else UNSET,
        content_type=event.content_type,
        published_at=None if event.published_at is None else rfc3339(event.published_at),
        received_at=rfc3339(event.received_at),
        source=event.source,
        mode=event.mode,
        attributes=encodable(event.attributes),
    )


def encodable(attributes: Mapping[str, str]) -> Mapping[str, str]:
    """Return the attributes as JSON can hold them: half of a surrogate pair, which is no text, becomes U+FFFD."""
    if _LONE_SURROGATE.search("".join((*attributes, *attributes.values()))) is None:
        return attributes
    return {
        _LONE_SURROGATE.sub("\ufffd", name): _LONE_SURROGATE.sub("\ufffd", value) for name, value in attributes.items()
    }


def _data(data: bytes | None) -> bytes | str | None:
    """Return text where the data is text, bytes where only base64 can show it."""
    if data is None:
        return None
    if data.startswith(b"data:") and (decoded := decode_data_url(data)) is not None:
        return decoded[1]
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


EXAMPLE = EventJson(
    id=UUID("0199f3a2-7c11-8b52-9f0e-3c5a7d1e2f40"),
    position=1042,
    product="tracker",
    device="e00fce682e79a004f1e69a2b",
    name="temperature",
    data='{"t":21.5}',
    content_type="application/json",
    published_at="2026-07-28T16:53:05.616Z",
    received_at="2026-07-28T16:53:05.702Z",
    source="fleet",
    mode="webhook",
    attributes={"fw_version": "91", "public": "false"},
)
