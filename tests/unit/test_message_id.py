"""The device's own number of a message, as every mode and shape of a body brings it: the same one from each."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.event import Event, Origin, Reject
from ingest.formats import AnyFormat, make_format
from ingest.formats.message import Message
from ingest.formats.message_id import MAX_BYTES, MessageIdFormat, message_id, parse_message_place
from ingest.formats.sse import Frame

AT = datetime(2026, 7, 28, 16, 53, 5, tzinfo=UTC)
STAMP = "2026-07-28T16:53:05.616Z"
DIGEST_CHARACTERS = 64


def particle(place: str | None = "/msg") -> AnyFormat:
    """The format of a Particle source."""
    return make_format("particle", Origin("tracker", "fleet", "any"), ("hook-",), {}, None, place)


def generic(place: str, **fields: str) -> AnyFormat:
    """The format of a generic source, whose data is at `/value`."""
    return make_format("generic", Origin("p", "s", "any"), (), {"data": "/value", **fields}, None, place)


def hook(data: object, device: str | None = "d1") -> dict[str, object]:
    """A webhook's members."""
    return {"event": "loc", "data": data, "coreid": device, "published_at": STAMP}


def messages(format_: AnyFormat, body: bytes | object, headers: Mapping[str, str] | None = None) -> list[str | None]:
    """The numbers that the events of a body have."""
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    return [event.message for event in format_.decode(sent, headers or {}, AT) if isinstance(event, Event)]


def test_every_way_brings_the_same_number() -> None:
    """JSON, data as an object, a form, a batch, lines, a pushed and a pulled message, a frame, a data URL."""
    text, format_ = '{"t": 1, "msg": "m 7"}', particle()
    attributes = {"event": "loc", "device_id": "d1", "published_at": STAMP}
    pushed = {"message": {"data": b64encode(text.encode()).decode(), "attributes": attributes}, "subscription": "s"}
    url = f"data:application/json;base64,{b64encode(text.encode()).decode()}"
    form = urlencode({"event": "loc", "data": text, "coreid": "d1", "published_at": STAMP}).encode()
    frame = Frame(event=b"loc", data=json.dumps(hook(text)).encode(), raw=b"", id=b"", oversized=False)

    for body in (hook(text), hook(json.loads(text)), hook(url), pushed):
        assert messages(format_, body) == ["m 7"], body
    assert messages(format_, form, {"content-type": "application/x-www-form-urlencoded"}) == ["m 7"]
    assert messages(format_, [hook(text), hook({"msg": 8})]) == ["m 7", "8"]
    assert messages(format_, b"\n".join(json.dumps(hook({"msg": n})).encode() for n in (1, 2))) == ["1", "2"]
    (pulled,) = format_.decode_message(Message(text.encode(), attributes, None), AT)
    (heard,) = format_.decode_frames([frame], 1, AT)
    assert isinstance(pulled, Event)
    assert isinstance(heard, Event)
    assert (pulled.message, heard.message) == ("m 7", "m 7")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("5", "5"),
        ('"5"', "5"),
        ('" 5 "', "5"),
        ("-5", "-5"),
        ("1e3", "1e3"),
        ("5.0", "5.0"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        ('"\\u00fc\\n"', "ü"),
        ('""', None),
        ('" "', None),
        ("null", None),
        ("true", None),
        ("[5]", None),
        ('{"a":5}', None),
        ("NaN", None),
        ("-Infinity", None),
    ],
)
def test_a_text_or_number_is_a_number(value: str, expected: str | None) -> None:
    """A number counts by its literal, and as the text of it; what is neither is no number of a message."""
    data = f'{{"msg": {value}}}'
    assert messages(particle(), hook(data)) == [expected]


@pytest.mark.parametrize("data", [None, "", "5", "[1]", '{"other": 5}', '{"msg": 5', "\ud800"])
def test_an_event_without_a_number_is_an_event(data: str | None) -> None:
    """Nothing there, or data that is no JSON: stored as ever."""
    assert messages(particle(), hook(data)) == [None]


def test_without_a_device_there_is_no_number() -> None:
    """Whose it would be is not known."""
    assert messages(particle(), [hook({"msg": 5}, None), hook({"msg": 5}, "")]) == [None, None]


def test_where_none_is_configured_no_format_knows_of_it() -> None:
    """No work is done for it: the format is the one that always was."""
    assert not isinstance(particle(None), MessageIdFormat)
    assert messages(particle(None), hook({"msg": 5})) == [None]


@pytest.mark.parametrize("text", ["x" * (MAX_BYTES + 1), "ü" * MAX_BYTES, "a\0b", "\ud800", "a\udfffb"])
def test_what_cannot_be_kept_is_kept_as_its_digest(text: str) -> None:
    """Long texts, NUL and halves of characters: two that are equal stay equal, and others do not become so."""
    format_ = particle()
    (found,) = messages(format_, hook({"msg": text}))
    (as_text,) = messages(format_, hook(json.dumps({"msg": text})))
    (other,) = messages(format_, hook({"msg": f"{text}x"}))

    assert found == as_text != other
    assert found is not None
    assert len(found) == DIGEST_CHARACTERS


@given(st.binary(max_size=600))
def test_any_bytes_make_a_text_that_stores_take(text: bytes) -> None:
    """Neither NUL nor half of a character, and short enough for a key."""
    found = message_id(text)
    assert (found is None) == (not text.strip())
    assert found is None or (len(found.encode()) <= MAX_BYTES and "\0" not in found)


def test_a_header_counts_for_the_whole_request() -> None:
    """The elements of a batch get their number behind it, as with a sender's id; a message's attributes are headers."""
    for format_ in (particle("header:X-Msg"), generic("header:X-Msg", device="/coreid", name="/event")):
        assert "x-msg" in format_.headers
        assert messages(format_, hook(1), {"x-msg": " 7 "}) == ["7"]
        assert messages(format_, [hook(1), hook(2)], {"x-msg": "7"}) == ["7#0", "7#1"]
        assert messages(format_, hook({"msg": 1})) == [None]


def test_an_attribute_of_a_message_may_be_the_number() -> None:
    """Pulled or pushed; Particle's other modes have such as members of their JSON. No other attribute is mistaken."""
    attributes = {"event": "loc", "device_id": "d1", "published_at": STAMP, "Msg": "7", "": "nothing"}
    pushed = {"message": {"data": "", "attributes": attributes}, "subscription": "s"}
    format_ = particle("attribute:Msg")
    assert messages(format_, pushed) == messages(format_, {**hook("x"), "Msg": 7}) == ["7"]

    by_attribute = generic("attribute:Msg", device="attribute:device_id", name="attribute:event")
    by_header = generic("header:msg", device="attribute:device_id", name="attribute:event")
    for chosen in (format_, by_attribute, by_header):
        (found,) = chosen.decode_message(Message(b'{"value": 1}', attributes, None), AT)
        assert isinstance(found, Event)
        assert found.message == "7"
    (without,) = particle("header:other").decode_message(Message(b"", attributes, None), AT)
    assert isinstance(without, Event)
    assert without.message is None


def test_a_pointer_leads_into_the_data() -> None:
    """Not into what stands around it: where that lies, each mode says differently."""
    body = {**hook({"inner": [{"msg": 5}]}), "msg": 9}
    assert messages(particle("/msg"), body) == [None]
    assert messages(particle("/inner/0/msg"), body) == ["5"]
    assert messages(generic("/msg"), {"device": "d", "name": "n", "value": {"msg": 5}, "msg": 9}) == ["5"]


def test_rejects_and_what_is_ignored_stay_as_they_are() -> None:
    """Beside them the others get their numbers."""
    found = particle().decode(json.dumps([{"data": 1}, {"event": "hook-sent/x"}, hook({"msg": 5})]).encode(), {}, AT)
    assert isinstance(found[0], Reject)
    assert [event.message for event in found if isinstance(event, Event)] == ["5"]


@pytest.mark.parametrize("text", ["", "msg", "sse:id", "header:", "attribute:", "/a~2"])
def test_a_place_that_is_none_is_refused(text: str) -> None:
    """The configuration says so, and what was expected."""
    with pytest.raises(ValueError, match="expected a JSON pointer"):
        parse_message_place(text)
