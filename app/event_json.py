"""An event as JSON, as every way out of Headrace shows it: API, live streams, handlers and command line."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Annotated, NotRequired, TypedDict, cast
from uuid import UUID

from msgspec import Meta

from ingest.event import Event
from ingest.identity import decode_data_url
from ingest.times import rfc3339

Time = Annotated[str, Meta(description="UTC, three decimals, Z", extra_json_schema={"format": "date-time"})]

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class EventJson(TypedDict):
    """One event. `data` is text exactly as sent; `data_base64` stands in its place where it is bytes."""

    id: Annotated[UUID, Meta(description="the same whichever way and however often the event comes")]
    position: Annotated[int | None, Meta(description="the order of commit")]
    product: str
    device: str | None
    name: str
    data: NotRequired[str | None]
    data_base64: NotRequired[Annotated[str, Meta(description="bytes that are no UTF-8, and base64 data URLs")]]
    content_type: str | None
    published_at: Time | None
    received_at: Time
    source: str
    mode: str
    attributes: dict[str, str]


def event_json(event: Event) -> EventJson:
    """The event in the key order of the documentation; msgspec can always encode it."""
    key, data = _data(event.data)
    json = {
        "id": event.id,
        "position": event.position,
        "product": event.product,
        "device": event.device,
        "name": event.name,
        key: data,
        "content_type": event.content_type,
        "published_at": None if event.published_at is None else rfc3339(event.published_at),
        "received_at": rfc3339(event.received_at),
        "source": event.source,
        "mode": event.mode,
        "attributes": encodable(event.attributes) if event.attributes else {},
    }
    return cast("EventJson", json)


def _data(data: bytes | None) -> tuple[str, str | None]:
    """Key and value: what of data is text, and what only base64 can show."""
    if data is None:
        return "data", None
    if data.startswith(b"data:") and (decoded := decode_data_url(data)) is not None:
        return "data_base64", base64.b64encode(decoded[1]).decode()
    try:
        return "data", data.decode()
    except UnicodeDecodeError:
        return "data_base64", base64.b64encode(data).decode()


def encodable(attributes: Mapping[str, str]) -> dict[str, str]:
    """The attributes as JSON can hold them: half of a surrogate pair, which is no text, becomes U+FFFD."""
    if _LONE_SURROGATE.search("".join((*attributes, *attributes.values()))) is None:
        return dict(attributes)
    return {
        _LONE_SURROGATE.sub("\ufffd", name): _LONE_SURROGATE.sub("\ufffd", value) for name, value in attributes.items()
    }
