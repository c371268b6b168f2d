"""The device's own number of a message: what a device sends again has another time, and another id, but this number.

No format need know of it: a MessageIdFormat stands in front of one. Where none is configured nothing is done.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from msgspec.structs import replace

from ingest.event import Event, Record
from ingest.formats.generic import GenericFormat
from ingest.formats.header_values import header_text
from ingest.formats.message import Message
from ingest.formats.particle import ParticleFormat
from ingest.formats.pointer import FRAME_ID, Header, Place, Pointer, attribute_name, make_finder, parse_place
from ingest.formats.values import data_of, is_string
from ingest.identity import canonicalize

if TYPE_CHECKING:  # it loads httpx, which commands that read the store do without
    from ingest.formats.sse import Frame

MAX_BYTES = 256  # with a device of as many characters it fits into a key of PostgreSQL's
_NUMBER = re.compile(rb"-?[0-9]")


def parse_message_place(text: str) -> Place:
    """Return the place that `message_id` names. Raises ValueError, which does not repeat it."""
    try:
        place = parse_place(text)
    except ValueError:
        place = None
    if place is None or place == FRAME_ID or not text:
        raise ValueError('expected a JSON pointer such as "/msg" (RFC 6901), "header:Name" or "attribute:Name"')
    return place


class MessageIdFormat:
    """Any format, and in its events of a device the number that stands at `place`.

    A pointer leads into an event's data, as that of a `sequence` does. A header counts for the whole request: the
    elements of a batch get their number behind it. The attributes of a message count as its headers too.
    """

    def __init__(self, format_: ParticleFormat | GenericFormat, place: Place) -> None:
        self._format = format_
        self._find = make_finder(place.tokens) if isinstance(place, Pointer) else None
        self._beside = place.name if isinstance(place, Header) else ""
        self._attribute = attribute_name(place)
        self.headers = format_.headers | ({self._beside} if self._beside else set())

    def decode(self, body: bytes, headers: Mapping[str, str], received_at: datetime) -> Sequence[Record]:
        """See protocols.Format."""
        return self._numbered(self._format.decode(body, headers, received_at), headers)

    def decode_frames(self, frames: Sequence[Frame], stream: int, received_at: datetime) -> Sequence[Record]:
        """See protocols.FrameFormat."""
        return self._numbered(self._format.decode_frames(frames, stream, received_at), {})

    def decode_message(self, message: Message, received_at: datetime) -> Sequence[Record]:
        """See protocols.MessageFormat."""
        beside = {name.lower(): value for name, value in message.attributes.items()}
        if self._attribute is not None and self._attribute in message.attributes:
            beside[self._beside] = message.attributes[self._attribute]
        return self._numbered(self._format.decode_message(message, received_at), beside)

    def _numbered(self, records: Sequence[Record], beside: Mapping[str, str]) -> Sequence[Record]:
        shared = self._header(beside[self._beside]) if self._beside in beside else None
        several = len(records) > 1
        return [
            replace(record, message=self._message_of(record, shared, number if several else None))
            if isinstance(record, Event) and record.device
            else record
            for number, record in enumerate(records)
        ]

    def _message_of(self, event: Event, shared: str | None, number: int | None) -> str | None:
        if self._find is not None:
            found = self._find(canonicalize(event.data)[0])
            return None if found is None else message_id_in(found)
        if self._attribute is not None and self._attribute in event.attributes:
            return message_id(event.attributes[self._attribute].encode("utf-8", "surrogatepass"))
        return shared if shared is None or number is None else f"{shared}#{number}"

    def _header(self, value: str) -> str | None:
        return message_id(header_text(self._beside, value).encode("utf-8", "surrogatepass"))


def message_id_in(slice_: bytes) -> str | None:
    """Return the message id that a JSON text or number is; None for anything else. 5 and "5" are one."""
    if is_string(slice_):
        return message_id(data_of(slice_) or b"")
    return message_id(slice_) if _NUMBER.match(slice_) else None


def message_id(text: bytes) -> str | None:
    """Return a text as the store keeps it: a digest where it is long, or no text to a database; None where it is empty.

    White space around it does not count.
    """
    text = text.strip()
    if len(text) <= MAX_BYTES and b"\0" not in text:
        try:
            return text.decode() or None
        except UnicodeDecodeError:  # a lone surrogate, or a device's own bytes
            pass
    return hashlib.blake2b(text, digest_size=32).hexdigest()
