"""The identity of an event: vectors that no release may change, and that formatting never makes two events of one."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.identity import (
    canonicalize,
    decode_data_url,
    event_id,
    nesting,
    random_id,
    sender_value,
)
from ingest.times import instant_of, parse_rfc3339

NOON = "2026-07-28T16:53:05.616Z"
DEVICE = "e00fce682e79a004f1e69a2b"

VECTORS = [
    (
        "019fa9a4-ebd0-8661-aad3-ddc328aa46d0",
        DEVICE,
        "temperature",
        NOON,
        b'{"t": 21.5, "name": "K\\u00f6ln", "seq": 7}',
    ),
    ("019fa9a4-ebd0-8f24-82cf-835f4df630de", DEVICE, "temperature", NOON, '{"z":1,"é":2,"𝄞":3,"￮":4,"A":-0}'.encode()),
    (
        "019fa9a4-ebd0-8480-91e7-47fa42417429",
        DEVICE,
        "temperature",
        NOON,
        b'[1, 2.50, "x", null, 12345678901234567890123456789]',
    ),
    ("019fa9a4-ebd0-8c78-9fc2-736efb888abb", DEVICE, "temperature", NOON, b'{"t":1,"t":2}'),
    ("019fa9a4-ebd0-877d-a848-7be93c98102a", DEVICE, "photo", NOON, b"data:application/octet-stream;base64,pyKYHEAb"),
    ("019fa9a4-ebd0-82ac-8af8-1921ac904144", DEVICE, "ping", NOON, None),
    (
        "01660231-df6d-8438-8e63-b8485928c84f",
        "api",
        "fourthFloorEngineering",
        "2018-09-22T16:51:54.861Z",
        b"test-event",
    ),
    ("019fa9a4-ebd0-8f93-adea-a1273dec34dd", None, "particle/firmware/release", NOON, b"{}"),
    ("00000000-0000-8f21-9788-f610fdb8f5ea", "api", "old", "1969-12-31T23:59:59.999Z", b"x"),
    ("00000000-0000-8b0f-affc-ac808dee8547", "api", "old", "0001-01-01T00:00:00Z", b"x"),
    ("e677d21f-dbff-8bbf-8fad-f2ada69632b4", "api", "late", "9999-12-31T23:59:59.999Z", b"x"),
    ("019fa9a4-ebd0-8d91-bf50-e24de9a0280f", "api", "fine", "2026-07-28T16:53:05.616123456Z", b"x"),
    ("019fa9a4-ebd0-8c86-8fcf-4ba8734881df", "Gerät", "Wärme", "2026-07-28T18:53:05.616+02:00", "21,5 °C".encode()),
]


@pytest.mark.parametrize(("pinned", "device", "name", "time", "data"), VECTORS)
def test_ids_are_pinned(pinned: str, device: str | None, name: str, time: str, data: bytes | None) -> None:
    """The id of each kind of event is this one for ever: changing it would store every redelivery twice."""
    assert event_id("tracker", device, name, parse_rfc3339(time), canonicalize(data)[0]) == UUID(pinned)


@pytest.mark.parametrize(
    ("pinned", "time"),
    [
        ("00000000-0000-80f9-9e80-ab7adde38001", None),
        ("019fa9a4-ebd0-8d96-b19a-d104beb1656a", NOON),
    ],
)
def test_ids_from_the_senders_own_id_are_pinned(pinned: str, time: str | None) -> None:
    """A configured id takes the place of data, with a zero prefix where there is no time."""
    instant = None if time is None else parse_rfc3339(time)
    assert event_id("tracker", "acct_1", "charge.succeeded", instant, sender_value("evt_1")) == UUID(pinned)


def test_an_id_is_a_version_8_uuid_that_sorts_by_time() -> None:
    """Version and variant are those of RFC 9562 §5.8, and the first 48 bits are milliseconds since 1970."""
    early, late = (event_id("p", "d", "n", parse_rfc3339(f"2026-07-28T16:53:05.{ms}Z"), b"") for ms in ("616", "617"))
    assert (early.version, early.variant) == (8, "specified in RFC 4122")
    assert early.int >> 80 == 1_785_257_585_616
    assert early < late


def test_an_offset_is_not_part_of_the_instant() -> None:
    """The same instant in another zone and precision is the same event."""
    times = [NOON, "2026-07-28T18:53:05.616+02:00", "2026-07-28T16:53:05.616000Z"]
    assert len({event_id("p", "d", "n", parse_rfc3339(time), b"x") for time in times}) == 1


def test_a_nanosecond_makes_another_event() -> None:
    """Times of equal milliseconds that differ further down are two events."""
    times = [NOON, "2026-07-28T16:53:05.616000001Z", "1969-01-01T00:00:00Z", "1968-01-01T00:00:00Z"]
    assert len({event_id("p", "d", "n", parse_rfc3339(time), b"x") for time in times}) == len(times)


def test_fields_never_run_into_one_another() -> None:
    """Moving a character from one field to the next makes another event."""
    instant = parse_rfc3339(NOON)
    ids = {event_id(p, d, n, instant, v) for p, d, n, v in (("ab", "c", "d", b""), ("a", "bc", "d", b""))}
    ids |= {event_id("a", "b", "cd", instant, b""), event_id("a", "b", "c", instant, b"d")}
    assert len(ids) == 4


def test_a_senders_id_never_equals_data() -> None:
    """An event that is known by an id cannot be taken for one whose data reads the same."""
    assert canonicalize(sender_value("1"))[0] != sender_value("1")


def test_a_random_id_is_new_each_time_and_sorts_by_arrival() -> None:
    """What cannot be told from its like is two events, in the order of their arrival."""
    at = instant_of(datetime(2026, 7, 28, tzinfo=UTC))
    one, two = random_id(at), random_id(at)
    assert one != two
    assert one.int >> 80 == two.int >> 80 == at.nanoseconds // 1_000_000
    assert one.version == 8


@pytest.mark.parametrize("data", [None, b"", b"  \n", b"null", b"undefined", b" null ", b"data:text/plain;base64,"])
def test_every_way_of_sending_nothing_is_nothing(data: bytes | None) -> None:
    """Absent, empty, null and the strings that stand for it are one."""
    assert canonicalize(data)[0] == b""


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (rb' {"b": [1, 2.50, 1E5], "a" : "\u00e9\/"} ', '{"a":"é/","b":[1,2.50,1E5]}'.encode()),
        (b" 21.5 ", b"21.5"),
        (b'"quoted"', b'"quoted"'),
        (b"success ", b"success"),
        (b'{"a": NaN}', b'{"a": NaN}'),
        (rb'{"a": NaN, "\u0062": 1}', rb'{"a": NaN, "\u0062": 1}'),
        (rb'{"a": "\ud800"}', rb'{"a": "\ud800"}'),
        (b'{"a": "\xff"}', b'{"a": "\xff"}'),
        (b'{"a": 1, "a": 2}', b'{"a": 1, "a": 2}'),
        (rb'{"a": 1, "\u0061": 2}', rb'{"a": 1, "\u0061": 2}'),
        (b"[" * 65 + b" " + b"]" * 65, b"[" * 65 + b" " + b"]" * 65),
        (b"[" * 64 + b" " + b"]" * 64, b"[" * 64 + b"]" * 64),
        (b"{" * 100_000, b"{" * 100_000),
        (b"data:a/b;base64,AAEC", b"\0\1\2"),
        (b"data:a/b;base64,!!!", b"data:a/b;base64,!!!"),
        (b"data:hello", b"data:hello"),
    ],
)
def test_canonical_data(data: bytes, expected: bytes) -> None:
    """JSON is compact and sorted with numbers as written; what is not quite JSON compares as bytes."""
    assert canonicalize(data)[0] == expected


def test_a_data_url_is_the_same_as_its_bytes() -> None:
    """A mode that brings the bytes and one that brings them as base64 agree, white space at the ends or not."""
    for content in (b"\0\xff\n", b" text ", b'{"b": 1, "a": 2}', b"null"):
        assert canonicalize(b"data:x/y;base64," + base64.b64encode(content))[0] == canonicalize(content)[0]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b'{"a":1.0}', b'{"a":1.00}'),
        (b'{"a":1.10}', b'{"a":1.1000000000000001}'),
        (b"[12345678901234567890123456789]", b"[12345678901234567890123456788]"),
        (b"[1]", b"[1.0]"),
        (b"[1e400]", b"[1e401]"),
        (b'{"a":1,"a":2}', b'{"a":2}'),
        (b'{"a":{"b":":","b":1}}', b'{"a":{"b":1}}'),
        (rb'{"a":1,"a":"\u003a"}', b'{"a":":"}'),
        (b'["1"]', b"[1]"),
        (b"[true]", b"[1]"),
        (b"[[],[]]", b"[[[]]]"),
    ],
)
def test_documents_that_differ_stay_apart(one: bytes, other: bytes) -> None:
    """Numbers never pass through a float, and a duplicate key never makes two documents one."""
    assert canonicalize(one)[0] != canonicalize(other)[0]


@pytest.mark.parametrize(
    "integer", ["-0", "9" * 30, "9" * 4299, "-" + "9" * 4299, "9" * 4300, "-" + "9" * 4300, "9" * 4301, "9" * 9000]
)
def test_escapes_do_not_change_how_integers_are_read(integer: str) -> None:
    """The quick parser and the careful one, which an escape calls for, take the same integers."""
    quick, careful = (
        canonicalize(b'{"a": %b,"k":"e"}' % integer.encode())[0],
        canonicalize(rb'{"a": %b,"k":"\u0065"}' % integer.encode())[0],
    )
    assert quick == careful.replace(rb"\u0065", b"e")


NUMBERS = st.from_regex(r"-?(0|[1-9][0-9]{0,24})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,4})?", fullmatch=True)
DOCUMENTS: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.text() | NUMBERS.map(lambda literal: msgspec.Raw(literal.encode())),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)
CONTAINERS = DOCUMENTS.filter(lambda document: isinstance(document, (list, dict)))


Draw = Callable[[st.SearchStrategy[Any]], Any]


def write(document: Any, draw: Draw) -> str:
    """The document as JSON in a formatting of chance: white space, key order, escapes."""
    if isinstance(document, msgspec.Raw):
        return bytes(document).decode()
    if isinstance(document, str):
        return write_string(document, draw)
    if not isinstance(document, (dict, list)):
        return json.dumps(document)
    opening, closing = "{}" if isinstance(document, dict) else "[]"
    inside = [write(item, draw) for item in document]
    if isinstance(document, dict):
        members = draw(st.permutations(list(document.items())))
        inside = [f"{write_string(key, draw)}{write_space(draw)}:{write(value, draw)}" for key, value in members]
    return write_space(draw).join([opening, f"{write_space(draw)},".join(inside), closing])


def write_space(draw: Draw) -> str:
    """No, one or two characters of JSON's white space."""
    return str(draw(st.text(" \t\r\n", max_size=2)))


def write_string(text: str, draw: Draw) -> str:
    """A JSON string with every escape, or with none but those it needs."""
    if draw(st.booleans()):
        return json.dumps(text, ensure_ascii=draw(st.booleans()))
    units = text.encode("utf-16-be", "surrogatepass")
    return '"' + "".join(f"\\u{units[i]:02x}{units[i + 1]:02X}" for i in range(0, len(units), 2)) + '"'


@given(CONTAINERS, st.data())
def test_any_formatting_of_a_document_is_one(document: Any, data: st.DataObject) -> None:
    """White space, key order and escapes never make another event, whichever parser they call for."""
    one, other = write(document, data.draw), write(document, data.draw)
    assert canonicalize(one.encode())[0] == canonicalize(other.encode())[0]


@given(CONTAINERS, CONTAINERS, st.data())
def test_different_documents_are_two(one: Any, other: Any, data: st.DataObject) -> None:
    """What differs in any value, type or literal stays apart."""
    forms = [canonicalize(write(document, data.draw).encode())[0] for document in (one, other)]
    assert (forms[0] == forms[1]) == (plain(one) == plain(other))


def plain(document: Any) -> Any:
    """The document in a form whose equality is that of JSON with numbers by their literals (and -0 as 0)."""
    if isinstance(document, msgspec.Raw):
        return ("number", bytes(document).replace(b"-0", b"0") if bytes(document) == b"-0" else bytes(document))
    if isinstance(document, list):
        return ("array", [plain(item) for item in document])
    if isinstance(document, dict):
        return ("object", {key: plain(value) for key, value in document.items()})
    return (type(document).__name__, document)


@pytest.mark.parametrize(
    ("data", "content_type"),
    [
        (None, None),
        (b"", "text/plain"),
        (b"21.5", "text/plain"),
        (b' {"a":1}', "application/json"),
        (b"[1,", "text/plain"),
        (b"[" * 65 + b"]" * 65, "text/plain"),
        (b"{" * 100_000, "text/plain"),
        (b"\xff\xfe", "application/octet-stream"),
        (b"data:image/png;base64,AAEC", "image/png"),
        (b"data:text/plain;charset=utf-8;base64,AAEC", "text/plain;charset=utf-8"),
        (b"data:;base64,AAEC", "text/plain"),
        (b"data:a\0b;base64,AAEC", "text/plain"),
        (b"data:" + b"x" * 300 + b";base64,AAEC", "text/plain"),
    ],
)
def test_the_content_type_is_what_data_shows(data: bytes | None, content_type: str | None) -> None:
    """JSON, text, bytes, or what a data URL says of itself, where that is printable and of sane length."""
    assert canonicalize(data)[1] == content_type


def test_a_data_url_may_be_broken_over_lines() -> None:
    """White space inside the base64 is left out."""
    assert decode_data_url(b"data:a/b;base64,AA\r\n EC") == ("a/b", b"\0\1\2")


@pytest.mark.parametrize(
    ("text", "levels"),
    [
        (b"1", 0),
        (b"{}", 1),
        (b"[[],[[]]]", 3),
        (b'{"[[[":"]]\\"[[["}', 1),
        (b"[" * 100_000, 100_000),
        (b'["' + b'\\"' * 100_000, 1),
        (b'["' + b'\\"' * 100_000 + b"\\", 1),
    ],
)
def test_nesting_counts_brackets_outside_strings(text: bytes, levels: int) -> None:
    """Brackets in strings do not count, and no text is slow, however its strings end."""
    assert nesting(text) == levels
