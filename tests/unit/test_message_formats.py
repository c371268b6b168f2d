"""A Pub/Sub message becomes the same Event as a webhook and a frame; what cannot be decoded is kept as it came."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import TooLarge
from ingest.event import Event, Ignored, Origin, Reason, Record, Reject
from ingest.formats.generic import Fields, GenericFormat
from ingest.formats.message import Message
from ingest.formats.particle import ParticleFormat
from ingest.formats.sse import Frame, FrameDecoder
from ingest.protocols import MessageFormat
from ingest.sources import modes

RECEIVED = datetime(2026, 7, 28, 16, 53, 5, 702000, UTC)
QUEUED = datetime(2026, 7, 28, 16, 53, 5, 650123, UTC)
PUBLISHED = "2026-07-28T16:53:05.616Z"
IGNORE = ("hook-sent/",)
HOOK, STREAM, PULL = (ParticleFormat(Origin("tracker", "fleet", mode), IGNORE) for mode in modes())
GENERIC = GenericFormat(Origin("tracker", "fleet", "pubsub"), IGNORE, Fields())
USUAL = {"event": "temp", "device_id": "d1", "published_at": PUBLISHED}

PRINTABLE = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=20)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


def message(
    data: bytes = b"21.5", attributes: Mapping[str, str] = USUAL, id_: str = "7", at: datetime = QUEUED
) -> Message:
    """A message as it comes out of the queue."""
    return Message(data, attributes, at, id_)


def record(message: Message, format_: MessageFormat = PULL, received_at: datetime = RECEIVED) -> Record:
    """The one record of a message."""
    (found,) = format_.decode_message(message, received_at)
    return found


def event(message: Message, format_: MessageFormat = PULL, received_at: datetime = RECEIVED) -> Event:
    """As `record`, where that is an Event."""
    found = record(message, format_, received_at)
    assert isinstance(found, Event), found
    return found


def by_hook(members: Mapping[str, object]) -> Event:
    """What a webhook with these members is."""
    (found,) = HOOK.decode(json.dumps(members).encode(), {"content-type": "application/json"}, RECEIVED)
    assert isinstance(found, Event), found
    return found


def by_stream(name: str, members: Mapping[str, object]) -> Event:
    """What a frame is whose data has these members."""
    frames: list[Frame] = FrameDecoder().feed(f"event: {name}\ndata: {json.dumps(members)}\n\n".encode())
    (found,) = STREAM.decode_frames(frames, 1, RECEIVED)
    assert isinstance(found, Event), found
    return found


@given(PRINTABLE, st.none() | PRINTABLE, VALUES, st.integers(0, 10**12), st.sampled_from([0, 3, 6]))
def test_an_event_has_one_id_by_all_three_modes(
    name: str, device: str | None, value: object, milliseconds: int, digits: int
) -> None:
    """Whatever its name, device, time and data are, and however each mode writes them."""
    at = datetime(2000, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)
    text = value if isinstance(value, str) else json.dumps(value)
    published_at = at.isoformat(timespec="milliseconds").replace("+00:00", "0" * (digits and digits - 3) + "Z")
    members: dict[str, object] = {"published_at": published_at, "data": text}
    attributes = {"event": name, "published_at": published_at}
    if device is not None:
        members["coreid"] = attributes["device_id"] = device
    if name.startswith(IGNORE):
        return
    pulled = event(message(text.encode(), attributes))

    assert pulled.id == by_hook({"event": name, **members}).id
    assert pulled.id == by_stream(name, members).id
    assert (pulled.name, pulled.device, pulled.published_at) == (name, device, at)


def test_an_event_of_particles_integration() -> None:
    """Attributes are called as webhooks call them; the three that are the event's own are not among them."""
    attributes = USUAL | {"fw_version": "91", "userid": "u1", "public": "false", "productID": "13961", "version": "92"}
    found = event(message(b'{"t":21.5}', attributes))
    assert found == Event(
        id=found.id,
        product="tracker",
        device="d1",
        name="temp",
        data=b'{"t":21.5}',
        content_type="application/json",
        published_at=datetime(2026, 7, 28, 16, 53, 5, 616000, UTC),
        received_at=RECEIVED,
        source="fleet",
        mode="pubsub",
        attributes={"fw_version": "92", "userid": "u1", "public": "false", "product_id": "13961"},
    )


@given(st.binary(max_size=200), st.dictionaries(st.sampled_from([*USUAL, "Content-Type"]) | TEXTS, TEXTS, max_size=6))
def test_no_message_is_too_odd(data: bytes, attributes: dict[str, str]) -> None:
    """Anything is an Event, an Ignored, or a Reject with its bytes and attributes; nothing raises."""
    for format_ in (PULL, GENERIC):
        for found in format_.decode_message(message(data, attributes), RECEIVED):
            assert isinstance(found, Event | Ignored | Reject)
            if isinstance(found, Reject):
                assert found.attributes == attributes
                assert found.body == data or format_ is GENERIC
            if isinstance(found, Event) and format_ is PULL:
                assert found.data == (data or None)


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({}, Reason.MISSING_NAME),
        (USUAL | {"event": ""}, Reason.MISSING_NAME),
        (USUAL | {"event": "n" * 257}, Reason.BAD_NAME),
        (USUAL | {"event": "a\x00"}, Reason.BAD_NAME),
        (USUAL | {"device_id": "d" * 257}, Reason.BAD_DEVICE),
        (USUAL | {"device_id": "d\n"}, Reason.BAD_DEVICE),
        (USUAL | {"published_at": "yesterday"}, Reason.BAD_TIME),
        (USUAL | {"published_at": "2026-02-30T00:00:00Z"}, Reason.BAD_TIME),
    ],
)
def test_a_reject_keeps_all_of_its_message(attributes: dict[str, str], reason: Reason) -> None:
    """Its bytes alone would not say whose value they are."""
    found = record(message(b"\xff21.5", attributes))
    assert isinstance(found, Reject)
    assert (found.reason, found.body, found.attributes) == (reason, b"\xff21.5", attributes)


def test_a_reject_among_several_elements_keeps_its_number() -> None:
    """An id that its message gives it has the number in it."""
    first, second, third = GENERIC.decode_message(message(b'[{"name":"a"},{},7]', USUAL), RECEIVED)
    assert isinstance(first, Event)
    assert isinstance(second, Reject)
    assert isinstance(third, Reject)
    assert (second.element, third.element) == (1, 2)
    assert second.attributes == third.attributes == USUAL


UNTIMED = {"event": "temp", "device_id": "d1"}
NAMED = GenericFormat(Origin("tracker", "fleet", "pubsub"), (), Fields(name="header:event", data=""))


@pytest.mark.parametrize("format_", [PULL, NAMED], ids=["particle", "generic"])
def test_a_message_without_a_time_has_one_id_however_often_it_comes(format_: MessageFormat) -> None:
    """The queue's time and id for it are the same at each delivery, and its own: equal readings are two."""
    first = event(message(b'{"t":21.5}', UNTIMED), format_)
    again = event(message(b'{"t":21.5}', UNTIMED), format_, RECEIVED + timedelta(seconds=60))
    another = event(message(b'{"t":21.5}', UNTIMED, "8"), format_)

    assert first.id == again.id
    assert first.id != another.id
    assert first.identified
    assert first.published_at == another.published_at == QUEUED


def test_elements_of_one_message_without_times_are_events_of_their_own() -> None:
    """Each has the message's id with its number behind it."""
    same = b'[{"name":"temp","t":1},{"name":"temp","t":1}]'
    once, again = (GENERIC.decode_message(message(same, {}), RECEIVED) for _ in range(2))
    ids = [found.id for found in once if isinstance(found, Event)]

    assert len(set(ids)) == 2
    assert ids == [found.id for found in again if isinstance(found, Event)]


def test_a_time_or_an_id_of_the_senders_is_what_counts() -> None:
    """The queue may hold an event twice: with an identity of its own it is one."""
    by_id = GenericFormat(Origin("tracker", "fleet", "pubsub"), (), Fields(id="/id"))
    copies = [message(b'{"name":"temp","id":"a"}', {}, id_, QUEUED + timedelta(seconds=int(id_))) for id_ in "12"]
    assert len({event(copy, by_id).id for copy in copies}) == 1
    assert event(message(id_="1")).id == event(message(id_="2", at=RECEIVED)).id


def test_a_message_with_too_many_elements_is_too_large() -> None:
    """More than ten thousand are not looked at."""
    with pytest.raises(TooLarge):
        GENERIC.decode_message(message(b"[" + b"1," * 10_000 + b"1]", {}), RECEIVED)
