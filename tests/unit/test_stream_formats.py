"""Frames become the same Events as webhooks do; what cannot be decoded is kept as it came."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

from ingest.event import Event, Ignored, Origin, Reason, Record, Reject
from ingest.formats.generic import Fields, GenericFormat
from ingest.formats.particle import ParticleFormat
from ingest.formats.sse import Frame, FrameDecoder
from ingest.protocols import FrameFormat

RECEIVED = datetime(2026, 7, 28, 16, 53, 5, 702000, UTC)
STREAM = Origin("tracker", "fleet", "sse")
IGNORE = ("hook-sent/", "hook-response/", "hook-error/")
PARTICLE = ParticleFormat(STREAM, IGNORE)
DATA = (
    rb'{"data":"{\"t\":21.5}","ttl":60,"published_at":"2026-07-28T16:53:05.616Z","coreid":"e00fce682e79a004f1e69a2b",'
    rb'"userid":"5d447a8c6c0ad300017dd72e","version":91,"public":false,"productID":13961}'
)


def frame(data: bytes = DATA, name: bytes = b"temperature") -> Frame:
    """A frame as upstream sends it."""
    (found,) = FrameDecoder().feed(b"event: %b\ndata: %b\n\n" % (name, data))
    return found


def record(frame: Frame, format_: FrameFormat = PARTICLE) -> Record:
    """What a frame becomes on connection 2."""
    (found,) = format_.decode_frames([frame], 2, RECEIVED)
    return found


def event(frame: Frame, format_: FrameFormat = PARTICLE) -> Event:
    """As `record`, where that is an Event."""
    found = record(frame, format_)
    assert isinstance(found, Event), found
    return found


def test_an_event_of_the_product_stream() -> None:
    """The name comes from the `event:` line; attributes are called as webhooks call them."""
    found = event(frame())
    assert (found.name, found.device, found.data) == ("temperature", "e00fce682e79a004f1e69a2b", b'{"t":21.5}')
    assert found.published_at == datetime(2026, 7, 28, 16, 53, 5, 616000, UTC)
    assert (found.source, found.mode, found.stream, found.received_at) == ("fleet", "sse", 2, RECEIVED)
    assert found.attributes == {
        "ttl": "60",
        "userid": "5d447a8c6c0ad300017dd72e",
        "fw_version": "91",
        "public": "false",
        "product_id": "13961",
    }


@pytest.mark.parametrize("data", [rb'"{\"t\":21.5}"', rb'{ "t": 21.5 }', rb'"{ \"t\" : 21.5 }"'])
def test_the_same_event_by_webhook_and_stream_has_one_id(data: bytes) -> None:
    """Whether either sends `data` as an object or as text, and however it is spaced."""
    by_stream = event(frame(DATA.replace(rb'"{\"t\":21.5}"', data)))
    body = b'{"event":"temperature","coreid":"e00fce682e79a004f1e69a2b","published_at":"2026-07-28T16:53:05.616Z",'
    (by_webhook,) = ParticleFormat(Origin("tracker", "hook", "webhook"), IGNORE).decode(
        body + rb'"data":"{\"t\":21.5}"}', {}, RECEIVED
    )
    assert isinstance(by_webhook, Event)
    assert by_stream.id == by_webhook.id


def test_a_nul_behind_the_json_of_a_frame_is_white_space() -> None:
    """As behind a webhook's."""
    assert event(frame(DATA + b"\0")).id == event(frame(DATA)).id


def test_names_may_be_anything_an_event_is_called() -> None:
    """`error` and `message` are names of devices' events like any other."""
    assert [event(frame(name=name)).name for name in (b"error", b"message")] == ["error", "message"]


@pytest.mark.parametrize(
    "name", [b"hook-sent/x", b"hook-response/x/0", b"e00fce682e79a004f1e69a2b/hook-response/x", b"hook-error/x"]
)
def test_our_own_webhooks_events_are_ignored(name: bytes) -> None:
    """They appear in the product stream, also addressed to a device."""
    assert isinstance(record(frame(name=name)), Ignored)


@pytest.mark.parametrize(
    ("data", "name", "reason"),
    [
        (DATA, b"", Reason.MISSING_NAME),
        (DATA, b"\xff", Reason.INVALID_UTF8),
        (DATA, b"x" * 257, Reason.BAD_NAME),
        (b"{", b"temperature", Reason.TRUNCATED),
        (b'{"data":}', b"temperature", Reason.MALFORMED_JSON),
        (b"online", b"temperature", Reason.MALFORMED_JSON),
        (b"a=b", b"temperature", Reason.MALFORMED_JSON),
        (b"[]", b"temperature", Reason.NOT_AN_OBJECT),
        (b'"online"', b"temperature", Reason.NOT_AN_OBJECT),
        (b" ", b"temperature", Reason.EMPTY),
        (b'{"published_at":"yesterday"}', b"temperature", Reason.BAD_TIME),
        (b'{"coreid":[]}', b"temperature", Reason.BAD_DEVICE),
    ],
)
def test_what_cannot_be_decoded_is_kept_as_it_came(data: bytes, name: bytes, reason: Reason) -> None:
    """A reject has the whole frame: its name is not in its data."""
    found = record(frame(data, name))
    assert isinstance(found, Reject)
    assert (found.reason, found.body) == (reason, b"event: %b\ndata: %b" % (name, data))


@pytest.mark.parametrize("format_", [PARTICLE, GenericFormat(STREAM, (), Fields())])
def test_an_oversized_frame_is_a_reject(format_: FrameFormat) -> None:
    """What was kept of it shows what it was."""
    found = record(Frame(b"", b"", b"event: big\ndata: xxx", oversized=True), format_)
    assert isinstance(found, Reject)
    assert (found.reason, found.body) == (Reason.TOO_LARGE, b"event: big\ndata: xxx")


@pytest.mark.parametrize("value", [b'"null"', b'"undefined"', b"null", b'""'])
def test_nothing_has_many_spellings(value: bytes) -> None:
    """All of them have the id of an event without data."""
    bare = b'{"published_at":"2026-07-28T16:53:05.616Z","coreid":null%b}'
    assert event(frame(bare % (b',"data":' + value))).id == event(frame(bare % b"")).id


def test_another_senders_stream() -> None:
    """With the generic format the pointers lead into the frame's data, and the `event:` line is the name."""
    format_ = GenericFormat(STREAM, IGNORE, Fields(id="/id", device="/thing", data="/value"))
    found = event(frame(b'{"id":7,"thing":"d1","value":[1,2],"time":1785257585}', b"reading"), format_)
    assert (found.name, found.device, found.data, found.stream) == ("reading", "d1", b"[1,2]", 2)
    named = event(frame(b'{"name":"alarm","id":7}', b"reading"), format_)
    assert named.name == "alarm"
    assert isinstance(record(frame(b'{"id":7}', b"hook-sent/x"), format_), Ignored)


BY_FRAME_ID = GenericFormat(STREAM, IGNORE, Fields(id="sse:id"))


def framed(*frames: bytes) -> list[Record]:
    """What the frames of one connection become where their `id:` lines identify them."""
    return list(BY_FRAME_ID.decode_frames(FrameDecoder().feed(b"".join(frames)), 1, RECEIVED))


def test_a_frames_own_id_identifies_its_event() -> None:
    """What is sent again is the same event; what is equal but has another id, or other data by the same, is told so."""
    first, again, other, changed = framed(
        b'id: 7\nevent: t\ndata: {"v":1}\n\n',
        b'event: t\ndata: {"v":1}\nid:7\n\n',
        b'id: 8\nevent: t\ndata: {"v":1}\n\n',
        b'id: 7\nevent: t\ndata: {"v":2}\n\n',
    )
    assert isinstance(first, Event)
    assert isinstance(again, Event)
    assert isinstance(other, Event)
    assert isinstance(changed, Event)
    assert first.id == again.id == changed.id != other.id
    assert first.identified


@pytest.mark.parametrize("line", [b"", b"id\n", b"id:\n", b"id: a\0b\n"])
def test_the_last_id_of_the_stream_identifies_nothing_else(line: bytes) -> None:
    """A frame without an id of its own has none, whatever stood before it."""
    first, bare, second = framed(
        b'id: 7\nevent: t\ndata: {"v":1}\n\n',
        line + b'event: t\ndata: {"v":1}\n\n',
        line + b'event: t\ndata: {"v":1}\n\n',
    )
    assert isinstance(first, Event)
    assert isinstance(bare, Event)
    assert isinstance(second, Event)
    assert len({first.id, bare.id, second.id}) == 3
    assert not bare.identified


def test_an_id_that_is_no_text() -> None:
    """It is a reject where it identifies, and nothing to others."""
    (reject,) = framed(b'id: \xff\nevent: t\ndata: {"v":1}\n\n')
    assert isinstance(reject, Reject)
    assert reject.reason is Reason.INVALID_UTF8
    (found,) = FrameDecoder().feed(b'id: \xff\nevent: t\ndata: {"v":1}\n\n')
    assert isinstance(record(found), Event)


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b'{"id":7}', Reason.MISSING_NAME), (b"[{}]", Reason.NOT_AN_OBJECT), (b"a=b", Reason.MALFORMED_JSON)],
)
def test_what_another_sender_means_is_not_guessed(data: bytes, reason: Reason) -> None:
    """A frame is one JSON object with a name, or a reject; never an array, and never a form."""
    found = record(frame(data, b""), GenericFormat(STREAM, (), Fields(id="/id")))
    assert isinstance(found, Reject)
    assert found.reason is reason


def test_an_empty_data_line_is_an_empty_element() -> None:
    """It is kept: somebody meant to say something."""
    found = record(frame(b""), GenericFormat(STREAM, (), Fields()))
    assert msgspec.structs.asdict(found)["reason"] is Reason.EMPTY
