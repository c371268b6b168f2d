"""One message of a queue, as it is pulled, or as Google Pub/Sub posts it to a push endpoint.

It posts it in an envelope (Google calls that wrapped, the default):
{"message": {"data": "<base64>", "attributes": {…}, "publishTime": "…", "messageId": "…"}, "subscription": "…"}
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

from ingest.errors import Undecodable
from ingest.event import Reason
from ingest.formats.slices import members
from ingest.formats.values import text_of, unicode_text
from ingest.times import parse_rfc3339

Members = Mapping[str, msgspec.Raw]


class Message(msgspec.Struct, frozen=True, gc=False):
    """The value as raw bytes (empty: there was none), and the attributes beside it.

    `published_at` (aware, UTC; None where the queue does not say) and `id` ("" likewise) are what the queue gave the
    message when it took it in, the same at each delivery. That is not when the event was published.
    """

    data: bytes
    attributes: Mapping[str, str]
    published_at: datetime | None
    id: str = ""


def is_push(envelope: Members) -> bool:
    """Return whether a JSON object has the shape of the envelope; an event with a name has not."""
    return "event" not in envelope and "subscription" in envelope and bytes(envelope.get("message", b""))[:1] == b"{"


def pushed_message(envelope: Members) -> Message:
    """Return the message in an envelope, the same as by pull.

    Google writes some names twice, in two ways; either will do.

    Raises Undecodable: MALFORMED_PUSH where the data is no base64 or the attributes are no texts, BAD_TIME.
    """
    message = members(bytes(envelope["message"]))
    return Message(
        data=_bytes(text_of(message.get("data"), Reason.MALFORMED_PUSH)),
        attributes=_attributes(bytes(message.get("attributes", b"null"))),
        published_at=_time(text_of(message.get("publishTime", message.get("publish_time")), Reason.BAD_TIME)),
        id=text_of(message.get("messageId", message.get("message_id")), Reason.MALFORMED_PUSH) or "",
    )


def _bytes(text: str | None) -> bytes:
    try:
        return b64decode(text or "", validate=True)
    except (binascii.Error, ValueError):
        raise Undecodable(Reason.MALFORMED_PUSH) from None


def _attributes(slice_: bytes) -> dict[str, str]:
    if slice_ == b"null":
        return {}
    if slice_[:1] != b"{":
        raise Undecodable(Reason.MALFORMED_PUSH)
    attributes = {}
    for name, value in members(slice_).items():
        text = text_of(value, Reason.MALFORMED_PUSH)
        if text is None:
            raise Undecodable(Reason.MALFORMED_PUSH)
        attributes[unicode_text(name)] = text
    return attributes


def _time(text: str | None) -> datetime | None:
    """Return a time in microseconds, by the arithmetic of Google's client: an event that has this time has one id by
    both ways.
    """
    if not text:
        return None
    try:
        seconds, nanoseconds = divmod(parse_rfc3339(text).nanoseconds, 1_000_000_000)
        return datetime.fromtimestamp(seconds + nanoseconds / 1e9, UTC)
    except (ValueError, OverflowError, OSError):
        raise Undecodable(Reason.BAD_TIME) from None
