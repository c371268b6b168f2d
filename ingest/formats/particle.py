"""Particle's webhooks (form, JSON, whatever a template made of them), event streams and messages, as one kind of Event.

Messages come by pull, or by push: then a webhook's body is the envelope of one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import msgspec
from msgspec.structs import astuple, replace

from ingest.errors import Undecodable
from ingest.event import Origin, Reason, Record
from ingest.formats.body import Broken, Document, Element, document, element, split
from ingest.formats.decoded import DecodedElement, in_message, instant_in, record, with_surroundings
from ingest.formats.hook_echoes import echo_of
from ingest.formats.message import Message, is_push, pushed_message
from ingest.formats.pointer import Header, attribute_name
from ingest.formats.product import SentProduct, word_at
from ingest.formats.slices import AROUND, check_depth
from ingest.formats.values import data_of, is_string, literal_of, text_of, text_or_number_of, unicode_text, utf8

if TYPE_CHECKING:  # it loads httpx, which commands that read the store do without
    from ingest.formats.sse import Frame

_Sent = TypeVar("_Sent")

# The event stream's names for what webhooks call otherwise.
_WEBHOOK_NAMES = (("version", "fw_version"), ("productID", "product_id"))


_Scalar = bool | int | str | None  # product hooks write a number where a template writes a text


class _UsualMembers(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """The default members; then those of the template that the README recommends, and those of a product's stream."""

    event: str | None = None
    coreid: str | None = None
    published_at: str | None = None
    event_id: _Scalar = None
    product_id: _Scalar = None
    fw_version: _Scalar = None
    userid: _Scalar = None
    ttl: _Scalar = None
    version: _Scalar = None
    public: _Scalar = None
    productID: _Scalar = None  # noqa: N815 - theirs


class _UsualWithText(_UsualMembers, frozen=True, forbid_unknown_fields=True, gc=False):
    """Data is a string, or there is none."""

    data: str | None = None


class _UsualWithJson(_UsualMembers, frozen=True, forbid_unknown_fields=True, gc=False):
    """Data is whatever it is."""

    data: msgspec.Raw = msgspec.Raw(b"null")


class _Usual(msgspec.Struct, frozen=True, gc=False):
    """An object as nearly all webhooks and streams send it: the same as a Document, opened and read in half of the
    time.
    """

    text: bytes
    members: _UsualWithText | _UsualWithJson


_usual_with_text = msgspec.json.Decoder(_UsualWithText).decode
_usual_with_json = msgspec.json.Decoder(_UsualWithJson).decode
# The members between those that are an event's own, by the names that webhooks have for them.
_FURTHER = ("event_id", "product_id", "fw_version", "userid", "ttl", "fw_version", "public", "product_id")
_NONE_FURTHER = [None] * len(_FURTHER)


class ParticleFormat:
    """protocols.Format, FrameFormat and MessageFormat for Particle.

    `ignore`: name prefixes, also after one leading `<device>/`. `products`: see SentProduct; a pointer leads into the
    event as a webhook has it, whichever way it came, and from there on into its data.
    """

    headers = frozenset({"content-type"})

    def __init__(self, origin: Origin, ignore: Sequence[str], products: SentProduct | None = None) -> None:
        self._origin = origin
        self._ignore = tuple(ignore)
        self._read: Callable[[_Usual | Element], DecodedElement] = _read
        self._read_frame: Callable[[Frame], DecodedElement] = _read_frame
        self._read_message: Callable[[Message], DecodedElement] = _read_message
        if products is not None:  # else it costs nothing
            self._read = partial(_with_product, products, _read)
            self._read_frame = partial(_with_product, products, _read_frame)
            self._read_message = partial(_with_product, products, _read_message)

    def decode(self, body: bytes, headers: Mapping[str, str], received_at: datetime) -> Sequence[Record]:
        """See protocols.Format."""
        return [
            record(self._read, part, part.text, self._origin, self._ignore, received_at, 0, echo_of)
            for part in split(body, headers.get("content-type", ""), _opened)
        ]

    def decode_frames(self, frames: Sequence[Frame], stream: int, received_at: datetime) -> Sequence[Record]:
        """See protocols.FrameFormat."""
        origin, ignore = self._origin, self._ignore
        read = self._read_frame
        return [record(read, frame, frame.raw, origin, ignore, received_at, stream, echo_of) for frame in frames]

    def decode_message(self, message: Message, received_at: datetime) -> Sequence[Record]:
        """See protocols.MessageFormat."""
        origin, ignore = self._origin, self._ignore
        decoded = record(self._read_message, message, message.data, origin, ignore, received_at, 0, echo_of)
        return with_surroundings([decoded], attributes=message.attributes)


def reading(
    *, name: str | None, device: str | None, published_at: str | None, data: bytes | None, attributes: dict[str, str]
) -> DecodedElement:
    """Return a DecodedElement of what Particle sent, by any mode. Raises Undecodable(BAD_TIME)."""
    for theirs, ours in _WEBHOOK_NAMES:
        if theirs in attributes:
            attributes[ours] = attributes.pop(theirs)
    return DecodedElement(name=name, device=device, instant=instant_in(published_at), data=data, attributes=attributes)


def read_members(members: Mapping[str, msgspec.Raw], name: str | None = None) -> DecodedElement:
    """Return a DecodedElement of Particle's JSON; `name` where it does not stand in there. Raises Undecodable."""
    device = published_at = data = None
    attributes = {}
    for key, value in members.items():
        if key == "data":
            data = data_of(value)
        elif key == "event":
            name = name or text_of(value, Reason.BAD_NAME)
        elif key == "published_at":
            published_at = text_or_number_of(value, Reason.BAD_TIME)
        elif key == "coreid":
            device = text_or_number_of(value, Reason.BAD_DEVICE)
        elif (text := literal_of(value)) is not None:
            attributes[key if key.isascii() else unicode_text(key)] = text
    return reading(name=name, device=device, published_at=published_at, data=data, attributes=attributes)


def _opened(text: bytes) -> _Usual | Document:
    try:
        return _Usual(text, _usual_with_text(text))
    except ValueError:
        pass
    try:
        members = _usual_with_json(text)
    except (ValueError, RecursionError):
        return document(text)
    if not is_string(members.data):  # the other members cannot nest
        check_depth(text)
    return _Usual(text, members)


def _read(part: _Usual | Element) -> DecodedElement:
    if isinstance(part, _Usual):
        return _read_usual(part.members, None)
    if isinstance(part, Document):
        return _read_message(pushed_message(part.members)) if is_push(part.members) else read_members(part.members)
    if isinstance(part, Broken):
        raise Undecodable(part.reason)
    return _read_fields(part.fields)


def _read_frame(frame: Frame) -> DecodedElement:
    """Read a frame: the stream has the name on the frame's `event:` line only, and everything else in the JSON of
    its data.
    """
    if frame.oversized:
        raise Undecodable(Reason.TOO_LARGE)
    part = element(frame.data.strip(AROUND), _opened)
    if isinstance(part, _Usual):
        return _read_usual(part.members, utf8(frame.event))
    if isinstance(part, Broken):
        raise Undecodable(part.reason if part.text else Reason.EMPTY)
    return read_members(part.members, utf8(frame.event))


def _read_usual(members: _UsualWithText | _UsualWithJson, name: str | None) -> DecodedElement:
    event, device, published_at, *further, data = astuple(members)
    return DecodedElement(
        name=name or event,
        device=device,
        instant=instant_in(published_at),
        data=data.encode() if isinstance(data, str) else None if data is None else data_of(data),
        attributes={} if further == _NONE_FURTHER else _texts(further),
    )


def _texts(further: Sequence[str | int | None]) -> dict[str, str]:
    """Return text as it is, a number by its digits, true and false by name; null is absent."""
    return {
        name: value if isinstance(value, str) else str(value).lower()
        for name, value in zip(_FURTHER, further, strict=True)
        if value is not None
    }


def _read_message(message: Message) -> DecodedElement:
    """Read a message: its data is the value alone."""
    attributes = dict(message.attributes)
    name, device = attributes.pop("event", None), attributes.pop("device_id", None)
    published_at = attributes.pop("published_at", None)
    found = reading(
        name=name, device=device, published_at=published_at, data=message.data or None, attributes=attributes
    )
    return in_message(found, message)


def _read_fields(fields: Mapping[bytes, bytes]) -> DecodedElement:
    data = fields.get(b"data")
    if data is not None and data.startswith(b"data:") and b";base64," in data:
        data = data.replace(b" ", b"+")  # base64 has no spaces: a sender forgot to escape its "+"
    texts = {key: utf8(value) for name, value in fields.items() if (key := utf8(name)) != "data"}
    return reading(
        name=texts.pop("event", None),
        device=texts.pop("coreid", None),
        published_at=texts.pop("published_at", None),
        data=data,
        attributes=texts,
    )


def _with_product(products: SentProduct, read: Callable[[_Sent], DecodedElement], sent: _Sent) -> DecodedElement:
    found = read(sent)
    return replace(found, product=products.product(_product_word(products, found)))


def _product_word(products: SentProduct, found: DecodedElement) -> str | None:
    """Return the sender's word for the product: a member or attribute, by its webhook's name, or what is inside."""
    if isinstance(products.place, Header):
        return found.attributes.get(_webhook_name(attribute_name(products.place) or ""))
    name, *inside = products.place.tokens
    members = {"event": found.name, "coreid": found.device, "device_id": found.device, **found.attributes}
    word = members.get(_webhook_name(name))
    if inside:
        word = word_at(tuple(inside), found.data if name == "data" else (word or "").encode())
    return word_at(products.place.tokens, found.data) if word is None else word


def _webhook_name(name: str) -> str:
    return dict(_WEBHOOK_NAMES).get(name, name)
