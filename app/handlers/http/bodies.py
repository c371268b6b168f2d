"""Events as the requests of an `http` handler carry them: CloudEvents 1.0 (JSON format, HTTP binding) or plain JSON.

Pure: events in, headers and body out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote
from uuid import UUID

import msgspec

from ingest.event import Event
from ingest.event_json import event_json
from ingest.identity import decode_data_url
from ingest.times import rfc3339

_JSON = "application/json"
_BYTES = "application/octet-stream"
_WITHOUT_NAME = "headrace.event"  # `type` may not be empty
# HTTP binding §3.1.3.2: printable ASCII stands for itself, but for the space, the quote and the percent sign.
_STANDS_FOR_ITSELF = "".join(map(chr, range(0x21, 0x7F))).translate({ord(each): None for each in '"%'})

_encode = msgspec.json.Encoder().encode


class CloudEvent(msgspec.Struct, omit_defaults=True, gc=False):
    """The JSON format of an event: what it does not have is left out."""

    specversion: str
    id: UUID
    source: str
    type: str
    subject: str | None = None
    time: str | None = None
    datacontenttype: str | None = None
    data: msgspec.Raw | str | None = None
    data_base64: bytes | None = None


class Content(NamedTuple):
    """A request's `body`, the headers that describe it, and its `id`: the event's, or a digest of those of a batch."""

    id: str
    headers: Mapping[str, str]
    body: bytes


Format = Callable[[Sequence[Event]], Content]


def cloudevents(events: Sequence[Event]) -> Content:
    """Return one event in structured mode."""
    (event,) = events
    headers = {"Content-Type": "application/cloudevents+json; charset=utf-8"}
    return Content(str(event.id), headers, _encode(_cloudevent(event)))


def cloudevents_batch(events: Sequence[Event]) -> Content:
    """Return events in batched mode."""
    headers = {"Content-Type": "application/cloudevents-batch+json; charset=utf-8"}
    return Content(batch_id(events), headers, _encode([_cloudevent(event) for event in events]))


def cloudevents_binary(events: Sequence[Event]) -> Content:
    """Return one event in binary mode: its attributes are headers, and its data is the body."""
    (event,) = events
    event_id = str(event.id)
    headers = {"ce-specversion": "1.0", "ce-id": event_id, "ce-source": _header_value(_source(event.product))}
    headers["ce-type"] = _header_value(event.name or _WITHOUT_NAME)
    if event.device:
        headers["ce-subject"] = _header_value(event.device)
    if event.published_at is not None:
        headers["ce-time"] = rfc3339(event.published_at)
    if event.data is None:
        return Content(event_id, headers, b"")
    headers["Content-Type"] = _media_type(event.content_type)
    decoded = decode_data_url(event.data)
    return Content(event_id, headers, event.data if decoded is None else decoded[1])


def plain(events: Sequence[Event]) -> Content:
    """Return one event as the API shows it."""
    (event,) = events
    return Content(str(event.id), {"Content-Type": _JSON}, _encode(event_json(event)))


def plain_batch(events: Sequence[Event]) -> Content:
    """Return events as the API shows them, in an array."""
    return Content(batch_id(events), {"Content-Type": _JSON}, _encode([event_json(event) for event in events]))


SINGLE: Mapping[str, Format] = {
    "cloudevents": cloudevents,
    "cloudevents-binary": cloudevents_binary,
    "plain": plain,
}
BATCHED: Mapping[str, Format] = {"cloudevents": cloudevents_batch, "plain": plain_batch}


def batch_id(events: Sequence[Event]) -> str:
    """Return a digest of the events' ids in their order: the same where the same batch is sent again."""
    return hashlib.sha256(b"".join(event.id.bytes for event in events)).hexdigest()[:32]


@lru_cache
def _source(product: str) -> str:
    return f"/products/{quote(product, safe='')}"


def _header_value(text: str) -> str:
    return quote(text, safe=_STANDS_FOR_ITSELF)


def _cloudevent(event: Event) -> CloudEvent:
    data, data_base64 = _data(event.data, event.content_type)
    return CloudEvent(
        "1.0",
        event.id,
        _source(event.product),
        event.name or _WITHOUT_NAME,
        event.device or None,
        None if event.published_at is None else rfc3339(event.published_at),
        event.content_type,
        data,
        data_base64,
    )


def _data(data: bytes | None, content_type: str | None) -> tuple[msgspec.Raw | str | None, bytes | None]:
    """Return `data` and `data_base64`, of which there is one at most: JSON as such, not as a text of it (§3.1.1)."""
    if data is None:
        return None, None
    decoded = decode_data_url(data)
    if decoded is not None:
        return None, decoded[1]
    if content_type == _JSON:  # seen to be JSON when it came
        return msgspec.Raw(data), None
    try:
        return data.decode(), None
    except UnicodeDecodeError:
        return None, data


def _media_type(content_type: str | None) -> str:
    """Return the media type of a body; a sender's data may not pass for a CloudEvent in structured mode."""
    if content_type is None or content_type.lower().startswith("application/cloudevents"):
        return _BYTES
    return content_type
