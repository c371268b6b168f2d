"""The result of every format: a DecodedElement in one set of names, and from it an Event, a Reject or an Ignored."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import TypeVar

import msgspec

from ingest.errors import Undecodable
from ingest.event import (
    MAX_DEVICE_CHARACTERS,
    MAX_NAME_CHARACTERS,
    Event,
    HookEcho,
    Ignored,
    Origin,
    Reason,
    Record,
    Reject,
)
from ingest.formats.message import Message
from ingest.identity import canonicalize, event_id, random_id, sender_value
from ingest.times import Instant, instant_of, parse_time

_Element = TypeVar("_Element")
EchoReader = Callable[[str, bytes | None], HookEcho | None]  # of a name and its data

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class DecodedElement(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The content of one element, whatever its sender calls it. Empty texts count as absent.

    `data` is as sent; `sender_id` is the sender's own id, where the configuration says that there is one; `product` is
    what its word for it stands for, None the source's own.
    """

    name: str | None
    device: str | None
    instant: Instant | None
    data: bytes | None
    attributes: Mapping[str, str]
    sender_id: str | None = None
    product: str | None = None


def record(
    read: Callable[[_Element], DecodedElement],
    element: _Element,
    text: bytes,
    origin: Origin,
    ignore: tuple[str, ...],
    received_at: datetime,
    stream: int = 0,
    echo_of: EchoReader | None = None,
) -> Record:
    """Return the record of one element. `text` is what a Reject keeps, where `read` or the rules here raise
    Undecodable. `echo_of`: what is tallied of one that is ignored.
    """
    try:
        return _event(read(element), origin, ignore, received_at, stream, echo_of)
    except Undecodable as fault:
        return Reject(source=origin.source, mode=origin.mode, received_at=received_at, reason=fault.reason, body=text)


def in_message(found: DecodedElement, message: Message, number: int | None = None) -> DecodedElement:
    """Give a reading that has neither time nor id those of its message: the same at each delivery, and no other's.

    `number` is which of the message's elements it is, where there are several.
    """
    if found.instant or found.sender_id:
        return found
    instant = instant_of(message.published_at) if message.published_at else None
    id_ = f"{message.id}#{number}" if message.id and number is not None else message.id
    return msgspec.structs.replace(found, instant=instant, sender_id=id_ or None)


def instant_in(text: str | None) -> Instant | None:
    """Return the instant of a sender's time; None where there is none. Raises Undecodable(BAD_TIME)."""
    if not text:
        return None
    try:
        return parse_time(text)
    except ValueError:
        raise Undecodable(Reason.BAD_TIME) from None


def with_surroundings(
    records: Sequence[Record], *, attributes: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
) -> Sequence[Record]:
    """Return the same records of one body; rejects keep what stood beside them too, and which of several elements
    they are.
    """
    kept = partial(msgspec.structs.replace, attributes=attributes, headers=headers)
    several = len(records) > 1
    return [
        kept(record, element=number if several else None) if isinstance(record, Reject) else record
        for number, record in enumerate(records)
    ]


def _event(
    reading: DecodedElement,
    origin: Origin,
    ignore: tuple[str, ...],
    received_at: datetime,
    stream: int,
    echo_of: EchoReader | None,
) -> Event | Ignored:
    name, device = reading.name, reading.device or None
    if not name:
        raise Undecodable(Reason.MISSING_NAME)
    if _unfit(name, MAX_NAME_CHARACTERS):
        raise Undecodable(Reason.BAD_NAME)
    if name.startswith(ignore) or name.partition("/")[2].startswith(ignore):
        echo = None if echo_of is None else echo_of(name, reading.data)
        return Ignored(source=origin.source, mode=origin.mode, received_at=received_at, echo=echo)
    if device and _unfit(device, MAX_DEVICE_CHARACTERS):
        raise Undecodable(Reason.BAD_DEVICE)
    sender_id, instant = reading.sender_id, reading.instant
    product = reading.product or origin.product
    value, content_type = canonicalize(reading.data)
    if sender_id or instant:
        value = sender_value(sender_id) if sender_id else value
        identity = event_id(product, device, name, instant, value)
    else:
        identity = random_id(instant_of(received_at))
    return Event(
        id=identity,
        product=product,
        device=device,
        name=name,
        data=reading.data,
        content_type=content_type,
        published_at=instant.at if instant else None,
        received_at=received_at,
        source=origin.source,
        mode=origin.mode,
        attributes=reading.attributes,
        stream=stream,
    )


def _unfit(text: str, most: int) -> bool:
    return len(text) > most or (not text.isprintable() and _CONTROL.search(text) is not None)
