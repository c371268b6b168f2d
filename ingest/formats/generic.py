"""Senders that are not Particle: the configuration says where each part of an event stands in their bodies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from ingest.errors import ConfigurationError, Undecodable
from ingest.event import Origin, Reason, Record
from ingest.formats.body import Broken, Document, Element, Form, document, element, split
from ingest.formats.decoded import DecodedElement, in_message, instant_in, record, with_surroundings
from ingest.formats.header_values import header_text
from ingest.formats.message import Message
from ingest.formats.pointer import FRAME_ID, Header, Place, Pointer, attribute_name, parse_place, resolve
from ingest.formats.product import SentProduct, word_in
from ingest.formats.slices import AROUND
from ingest.formats.values import Slice, data_of, text_of, text_or_number_of, utf8

if TYPE_CHECKING:  # it loads httpx, which commands that read the store do without
    from ingest.formats.sse import Frame

_PAYLOAD = b"payload"

Complete = Callable[[DecodedElement, int | None], DecodedElement]  # with what stands beside a body; the element


@dataclass(frozen=True, slots=True)
class Fields:
    """The places of the parts of an event: JSON pointers (RFC 6901; "" is all of it), "header:Name",
    "attribute:Name", "sse:id", or None.

    In a form a pointer of one token names a field, and "" is the body. A form of `payload` alone is read as its JSON.
    """

    id: str | None = None
    device: str | None = "/device"
    name: str | None = "/name"
    time: str | None = "/time"
    data: str | None = ""


class GenericFormat:
    """protocols.Format and MessageFormat for any JSON or forms, FrameFormat for JSON. `ignore`: as for Particle.

    Where `fields.id` is configured it stands for the data in the event's identity. An id in a header names the request:
    the elements of a batch get its number behind it. `products`: see SentProduct. Raises ConfigurationError for a place
    that cannot be read.
    """

    def __init__(
        self, origin: Origin, ignore: Sequence[str], fields: Fields, products: SentProduct | None = None
    ) -> None:
        self._origin = origin
        self._ignore = tuple(ignore)
        self._id = _place("fields.id", fields.id)
        self._device = _place("fields.device", fields.device)
        self._name = _place("fields.name", fields.name)
        self._time = _place("fields.time", fields.time)
        self._data = _place("fields.data", fields.data)
        self._products = products
        places = self._id, self._device, self._name, self._time, self._data, products.place if products else None
        self.headers = {"content-type", *(place.name for place in places if isinstance(place, Header))}
        self._attributes = [(f"attribute:{name}", name) for name in map(attribute_name, places) if name is not None]

    def decode(self, body: bytes, headers: Mapping[str, str], received_at: datetime) -> Sequence[Record]:
        """See protocols.Format."""
        return self._decode(body, self._read_headers(headers), received_at, lambda found, number: found)

    def decode_frames(self, frames: Sequence[Frame], stream: int, received_at: datetime) -> Sequence[Record]:
        """See protocols.FrameFormat."""
        origin, ignore = self._origin, self._ignore
        return [record(self._read_frame, frame, frame.raw, origin, ignore, received_at, stream) for frame in frames]

    def decode_message(self, message: Message, received_at: datetime) -> Sequence[Record]:
        """See protocols.MessageFormat: a message is read as a request, its attributes as headers."""
        headers = {name.lower(): value for name, value in message.attributes.items()}
        headers |= {place: message.attributes[name] for place, name in self._attributes if name in message.attributes}
        decoded = self._decode(
            message.data, headers, received_at, lambda found, number: in_message(found, message, number)
        )
        return with_surroundings(decoded, attributes=message.attributes)

    def _decode(
        self, body: bytes, headers: Mapping[str, str], received_at: datetime, complete: Complete
    ) -> Sequence[Record]:
        elements = _elements(body, headers.get("content-type", ""))

        def read(number: int | None, part: Element) -> DecodedElement:
            return complete(self._read(headers, number, part), number)

        return [
            record(
                partial(read, number if len(elements) > 1 else None),
                *(part, part.text, self._origin, self._ignore, received_at),
            )
            for number, part in enumerate(elements)
        ]

    def _read_headers(self, headers: Mapping[str, str]) -> Mapping[str, str]:
        """Return those that are read, as texts."""
        return {name: header_text(name, headers[name]) for name in self.headers if name in headers}

    def _read_frame(self, frame: Frame) -> DecodedElement:
        """Read a frame: its data is one element; the `event:` line is its name where the pointer finds none."""
        if frame.oversized:
            raise Undecodable(Reason.TOO_LARGE)
        part = element(frame.data.strip(AROUND), document)
        if isinstance(part, Broken) and not part.text:
            raise Undecodable(Reason.EMPTY)
        beside = {FRAME_ID.name: utf8(frame.id)} if frame.id and FRAME_ID.name in self.headers else {}
        found = self._read(beside, None, part)
        return found if found.name else msgspec.structs.replace(found, name=utf8(frame.event))

    def _read(self, headers: Mapping[str, str], number: int | None, part: Element) -> DecodedElement:
        if isinstance(part, Broken):
            raise Undecodable(part.reason)
        find = partial(_find, part, headers)
        sender_id = _scalar(find(self._id), Reason.BAD_ID)
        if sender_id and number is not None and isinstance(self._id, Header):
            sender_id = f"{sender_id}#{number}"
        return DecodedElement(
            name=_text(find(self._name), Reason.BAD_NAME),
            device=_scalar(find(self._device), Reason.BAD_DEVICE),
            instant=instant_in(_scalar(find(self._time), Reason.BAD_TIME)),
            data=_data(find(self._data)),
            attributes={},
            sender_id=sender_id,
            product=None if self._products is None else self._products.product(_word(find(self._products.place))),
        )


def _elements(body: bytes, content_type: str) -> Sequence[Element]:
    """Return the elements of a body; a form whose only field is `payload`, as GitHub's, is that field's JSON."""
    elements = split(body, content_type, document)
    if not elements or not isinstance(form := elements[0], Form) or form.fields.keys() != {_PAYLOAD}:
        return elements
    inside = split(form.fields[_PAYLOAD], "application/json", document)
    if len(inside) == 1 and isinstance(inside[0], Broken):
        return [Broken(form.text, inside[0].reason)]
    return inside


class _Plain(msgspec.Struct, frozen=True):
    """Text as it stands in a form or a header; what is found in JSON is a source slice instead."""

    text: bytes


def _place(key: str, text: str | None) -> Place | None:
    try:
        return None if text is None else parse_place(text)
    except ValueError as error:
        raise ConfigurationError(f"{key}: {error}") from None


def _find(part: Document | Form, headers: Mapping[str, str], place: Place | None) -> _Plain | bytes | None:
    if place is None:
        return None
    if isinstance(place, Header):
        return _Plain(headers[place.name].encode()) if place.name in headers else None
    if isinstance(part, Document):
        return _in_document(part, place)
    return _in_form(part, place)


def _in_document(document: Document, pointer: Pointer) -> bytes | None:
    if not pointer.tokens:
        return document.text
    member = document.members.get(pointer.tokens[0])
    return None if member is None else resolve(pointer.tokens[1:], bytes(member))


def _in_form(form: Form, pointer: Pointer) -> _Plain | None:
    if not pointer.tokens:
        return _Plain(form.text)
    value = form.fields.get(pointer.tokens[0].encode()) if len(pointer.tokens) == 1 else None
    return None if value is None else _Plain(value)


def _text(found: _Plain | Slice | None, reason: Reason) -> str | None:
    return utf8(found.text) if isinstance(found, _Plain) else text_of(found, reason)


def _scalar(found: _Plain | Slice | None, reason: Reason) -> str | None:
    return utf8(found.text) if isinstance(found, _Plain) else text_or_number_of(found, reason)


def _word(found: _Plain | Slice | None) -> str | None:
    return found.text.decode(errors="replace") if isinstance(found, _Plain) else word_in(found)


def _data(found: _Plain | bytes | None) -> bytes | None:
    if isinstance(found, _Plain):
        return found.text
    return None if found is None else data_of(found)
