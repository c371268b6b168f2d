"""Every shape in which Particle's webhooks arrive becomes the right Event, and everything else the right Reject."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ingest.errors import TooLarge
from ingest.event import Event, Ignored, Origin, Reason, Record, Reject
from ingest.formats.decoded import record
from ingest.formats.particle import ParticleFormat, reading

RECEIVED = datetime(2026, 7, 28, 16, 53, 5, 702000, UTC)
FORM = "application/x-www-form-urlencoded"
PUBLISHED = "2026-07-28T16:53:05.616Z"
ORIGIN = Origin(product="tracker", source="fleet", mode="webhook")
IGNORE = ("hook-sent/", "hook-response/", "hook-error/")
FORMAT = ParticleFormat(ORIGIN, IGNORE)


def decode(body: bytes | str, content_type: str = FORM) -> Sequence[Record]:
    """The records of a body."""
    sent = body.encode() if isinstance(body, str) else body
    return FORMAT.decode(sent, {"content-type": content_type} if content_type else {}, RECEIVED)


def event(body: bytes | str, content_type: str = FORM) -> Event:
    """The one Event of a body."""
    (found,) = decode(body, content_type)
    assert isinstance(found, Event), found
    return found


def reason(body: bytes | str, content_type: str = FORM) -> Reason:
    """Why a body is one Reject, which keeps it as it came."""
    (found,) = decode(body, content_type)
    assert isinstance(found, Reject), found
    assert found.body == (body.encode() if isinstance(body, str) else body)
    return found.reason


def with_member(member: bytes | str) -> bytes:
    """A good event's JSON with one member more, behind the others."""
    text = member.encode() if isinstance(member, str) else member
    return b'{"event":"temp","coreid":"d1","published_at":"%b",%b}' % (PUBLISHED.encode(), text)


def test_events_share_no_attributes() -> None:
    """What a handler of the operator's writes into an event must not be stored with every later one."""
    first, second = (event(with_member('"data":"1"')) for _ in range(2))
    assert first.attributes == second.attributes == {}
    assert first.attributes is not second.attributes


def test_the_default_form() -> None:
    """A hook made with only event and URL sends a form."""
    body = "event=demo&data=mydata&published_at=2017-02-01T21%3A08%3A05.763Z&coreid=3f002b000000000000000000"
    found = event(body)
    assert found == Event(
        id=found.id,
        product="tracker",
        device="3f002b000000000000000000",
        name="demo",
        data=b"mydata",
        content_type="text/plain",
        published_at=datetime(2017, 2, 1, 21, 8, 5, 763000, UTC),
        received_at=RECEIVED,
        source="fleet",
        mode="webhook",
        attributes={},
    )
    assert event(body, f"{FORM}; charset=utf-8").id == found.id


def test_a_product_hooks_json() -> None:
    """The captured sample: data is JSON in a string, fw_version a number, public a string."""
    found = event(
        r'{"event":"temp","data":"{\"b\":\"88.36\"}","published_at":"2018-11-12T08:06:00.343Z",'
        r'"coreid":"2b004f000000000000000000","userid":"5bd2ce810000000000000000","fw_version":1,"public":"false"}'
    )
    assert (found.name, found.device) == ("temp", "2b004f000000000000000000")
    assert (found.data, found.content_type) == (b'{"b":"88.36"}', "application/json")
    assert found.published_at == datetime(2018, 11, 12, 8, 6, 0, 343000, UTC)
    assert found.attributes == {"userid": "5bd2ce810000000000000000", "fw_version": "1", "public": "false"}


def test_the_consoles_test_button() -> None:
    """`api` is a device like any other."""
    found = event(
        '{"event":"fourthFloorEngineering","data":"test-event","published_at":"2018-09-22T16:51:54.861Z","coreid":"api"}'
    )
    assert (found.name, found.data, found.device) == ("fourthFloorEngineering", b"test-event", "api")


def test_the_recommended_template() -> None:
    """Every template variable arrives as a string, and event_id is an attribute, not the identity."""
    template = with_member('"data":"1","product_id":"7","fw_version":"91","userid":"","event_id":"own"')
    first, second = event(template), event(template.replace(b'"own"', b'"another"'))
    assert first.attributes == {"event_id": "own", "product_id": "7", "fw_version": "91", "userid": ""}
    assert first.id == second.id


@pytest.mark.parametrize("value", [b'{"b": [1, 2.50], "a":"\\u00e9"}', b'[1,  "x"]', b"{}"])
def test_data_as_an_object_and_as_text_is_one_event(value: bytes) -> None:
    """A raw template and a quoted one differ in nothing: data is kept as its source, and the id is the same."""
    as_object, as_text = (
        event(with_member(b'"data":' + value)),
        event(with_member(f'"data":{json.dumps(value.decode())}')),
    )
    assert as_object == as_text
    assert as_object.data == value
    form = urlencode({"event": "temp", "coreid": "d1", "published_at": PUBLISHED, "data": value})
    assert event(form) == as_text


@pytest.mark.parametrize(
    ("member", "data"),
    [
        (b'"data":null', None),
        (b'"x":1', None),
        (b'"data":""', b""),
        (b'"data":"null"', b"null"),
        (b'"data":"undefined"', b"undefined"),
    ],
)
def test_no_data_in_any_writing_is_one_event(member: bytes, data: bytes | None) -> None:
    """Absent, null and the strings that stand for it keep their writing and share an id."""
    found = event(with_member(member))
    assert found.data == data
    assert found.id == event(with_member(b'"data":null')).id


@pytest.mark.parametrize(
    ("value", "data"),
    [
        (b"21.50", b"21.50"),
        (b"true", b"true"),
        (b"NaN", b"NaN"),
        (b"1e999", b"1e999"),
        (b"9" * 5000, b"9" * 5000),
        (b'{"t": NaN}', b'{"t": NaN}'),
        (b'{"a":1,"a":2}', b'{"a":1,"a":2}'),
        (b'"\xff\x00"'.replace(b"\x00", b"\\u0000"), b"\xff\x00"),
        (rb'"\ud800 \ud83d\ude00 \n"', b"\xed\xa0\x80 \xf0\x9f\x98\x80 \n"),
        (b'"\xff\\udc80\x80"', b"\xff\xed\xb2\x80\x80"),
        (rb'{"a":"\ud800"}', rb'{"a":"\ud800"}'),
        (b'{"a":"\xff"}', b'{"a":"\xff"}'),
        (b'"  spaces  "', b"  spaces  "),
        (b'"&quot;html&quot;"', b"&quot;html&quot;"),
    ],
)
def test_odd_data_is_stored_as_sent(value: bytes, data: bytes) -> None:
    """NaN, huge numbers, duplicate keys, lone surrogates and bytes that are no UTF-8 are welcome inside data."""
    found = event(with_member(b'"data":' + value))
    assert found.data == data
    assert (found.name, found.device, found.attributes) == ("temp", "d1", {})


def test_data_that_nests_deep_in_a_string_is_text() -> None:
    """Only JSON of ours has a limit of 64 levels."""
    deep = b'{"a":' * 500 + b"1" + b"}" * 500
    found = event(with_member('"data":' + json.dumps(deep.decode())))
    assert found.data == deep
    assert found.content_type == "text/plain"


@pytest.mark.parametrize("levels", [65, 2000, 100_000])
def test_json_that_nests_deep_is_a_reject(levels: int) -> None:
    """Over 64 levels in any member: kept aside, whatever the depth."""
    for key in ("data", "other"):
        assert reason(with_member(f'"{key}":' + "[" * levels + "]" * levels)) is Reason.TOO_DEEP


DATA_URL = "data:application/octet-stream;base64,pyKYHEAbm4C7+dnAE7tO0KPAroHFk5/qg45pJw=="


def test_a_data_url_stays_its_text_and_names_its_type() -> None:
    """Binary data is kept as it was sent; the media type is the event's."""
    found = event(with_member(f'"data":"{DATA_URL}"'))
    assert found.data == DATA_URL.encode()
    assert found.content_type == "application/octet-stream"


@pytest.mark.parametrize("written", [quote(DATA_URL), DATA_URL, DATA_URL.replace("+", "%2B")])
def test_a_data_url_in_a_form_gets_its_plus_signs_back(written: str) -> None:
    """A `+` that the sender did not escape came as a space: base64 has none."""
    found = event(f"event=temp&coreid=d1&published_at={PUBLISHED}&data={written}")
    assert found == event(with_member(f'"data":"{DATA_URL}"'))


def test_spaces_in_other_form_data_stay() -> None:
    """Only a base64 data URL is repaired."""
    assert event("event=temp&data=data:+a+b").data == b"data: a b"


@pytest.mark.parametrize(
    ("members", "device"),
    [
        ("", None),
        (',"coreid":null', None),
        (',"coreid":""', None),
        (',"coreid":"particle-internal"', "particle-internal"),
        (',"coreid":"Gerät 7"', "Gerät 7"),
        (',"coreid":12.50', "12.50"),
        (',"coreid":"' + "d" * 256 + '"', "d" * 256),
    ],
)
def test_devices(members: str, device: str | None) -> None:
    """Absent, null and empty are none; a number is its literal; anything printable up to 256 characters is fine."""
    assert event('{"event":"e"' + members + "}").device == device


def test_attributes_are_strings_under_the_webhooks_names() -> None:
    """Scalars are kept by their literals, null is left out, an object is its source, streams' names are renamed."""
    found = event(
        '{"event":"e","version":91,"productID":13961,"ttl":60,"public":false,'
        '"x":1.50,"none":null,"o":{ "a" : 1},"ü":"ü"}'
    )
    assert found.attributes == {
        "fw_version": "91",
        "product_id": "13961",
        "ttl": "60",
        "public": "false",
        "x": "1.50",
        "o": '{ "a" : 1}',
        "ü": "ü",
    }
    assert event("event=e&version=91&ttl=60&data=1").attributes == {"fw_version": "91", "ttl": "60"}


@pytest.mark.parametrize("time", ["", ',"published_at":null', ',"published_at":""'])
def test_without_time_two_copies_are_two_events(time: str) -> None:
    """Nothing tells two readings of 21.5 apart from one that came twice: both are stored."""
    body = '{"event":"t","data":"21.5"' + time + "}"
    one, two = event(body), event(body)
    assert one.id != two.id
    assert one.published_at is None
    assert not one.identified
    assert one.id.int >> 80 == int(RECEIVED.timestamp() * 1000)


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999Z", "1969-12-31T23:59:59Z"])
def test_absurd_but_valid_times_are_stored(time: str) -> None:
    """A device with a broken clock loses nothing."""
    found = event(f'{{"event":"t","published_at":"{time}"}}')
    assert found.published_at == datetime.fromisoformat(time)
    assert found.identified


@pytest.mark.parametrize(
    "name",
    ["hook-sent/x", "hook-response/temp/0", "hook-error/", "e00fce/hook-response/temp/0", "e00fce/hook-sent/x"],
)
def test_our_own_hooks_events_are_ignored(name: str) -> None:
    """Names with an ignored prefix, also behind one leading device, are counted and not kept."""
    (ignored,) = decode(f'{{"event":"{name}"}}')
    assert isinstance(ignored, Ignored)
    assert replace(ignored, echo=None) == Ignored(source="fleet", mode="webhook", received_at=RECEIVED)
    assert decode(f"event={name}") == [ignored]


@pytest.mark.parametrize(
    "name", ["hook-sent", "my/e00fce/hook-sent/x", "spark/status", "xhook-sent/y", "Wärme", "a b "]
)
def test_other_names_are_kept_as_they_are(name: str) -> None:
    """Only a prefix is ignored, and names may hold anything printable."""
    assert event(json.dumps({"event": name})).name == name


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", Reason.EMPTY),
        (b"{}", Reason.MISSING_NAME),
        (b'{"event":null}', Reason.MISSING_NAME),
        (b'{"event":""}', Reason.MISSING_NAME),
        (b"a=b", Reason.MISSING_NAME),
        (b"event=&data=1", Reason.MISSING_NAME),
        (b'{"event":5}', Reason.BAD_NAME),
        (b'{"event":1.5}', Reason.BAD_NAME),
        (b'{"event":NaN}', Reason.BAD_NAME),
        (b'{"event":true}', Reason.BAD_NAME),
        (b'{"event":["a"]}', Reason.BAD_NAME),
        (rb'{"event":"a\u0000b"}', Reason.BAD_NAME),
        (rb'{"event":"a\nb"}', Reason.BAD_NAME),
        (b'{"event":"a\x7fb"}', Reason.BAD_NAME),
        (b'{"event":"a\xc2\x85b"}', Reason.BAD_NAME),
        (b'{"event":"' + b"n" * 257 + b'"}', Reason.BAD_NAME),
        (b"event=a%00b", Reason.BAD_NAME),
        (b'{"event":"\xff"}', Reason.INVALID_UTF8),
        (rb'{"event":"\ud800"}', Reason.INVALID_UTF8),
        (b"event=%ff", Reason.INVALID_UTF8),
        (b'{"event":"e","coreid":{}}', Reason.BAD_DEVICE),
        (b'{"event":"e","coreid":[1]}', Reason.BAD_DEVICE),
        (b'{"event":"e","coreid":false}', Reason.BAD_DEVICE),
        (rb'{"event":"e","coreid":"d\u0000"}', Reason.BAD_DEVICE),
        (b'{"event":"e","coreid":"' + b"d" * 257 + b'"}', Reason.BAD_DEVICE),
        (b'{"event":"e","coreid":' + b"1" * 257 + b"}", Reason.BAD_DEVICE),
        (b'{"event":"e","coreid":"\xed\xa0\x80"}', Reason.INVALID_UTF8),
        (rb'{"event":"e","coreid":"\udfff"}', Reason.INVALID_UTF8),
        (b'{"event":"e","published_at":"soon"}', Reason.BAD_TIME),
        (b'{"event":"e","published_at":true}', Reason.BAD_TIME),
        (b'{"event":"e","published_at":{}}', Reason.BAD_TIME),
        (b"event=e&published_at=soon", Reason.BAD_TIME),
        (b'{"event":"e","x":"\xff"}', Reason.INVALID_UTF8),
        (b'{"event":"e","x":{"y":"\xff"}}', Reason.INVALID_UTF8),
        (b'{"event":"e","\xff":1}', Reason.INVALID_UTF8),
        (rb'{"event":"e","\ud800":1}', Reason.INVALID_UTF8),
        (rb'{"event":"e","x":"\ud800"}', Reason.INVALID_UTF8),
        (b"event=e&%ff=1", Reason.INVALID_UTF8),
        (b"event=e&x=%ff", Reason.INVALID_UTF8),
        (b'{"event":"e"', Reason.MALFORMED_JSON),
        (b"{'event':'e'}", Reason.MALFORMED_JSON),
        (b"hello", Reason.MALFORMED_FORM),
        (b"[1]"[1:2], Reason.NOT_AN_OBJECT),
    ],
)
def test_bad_input_is_kept_with_its_reason(body: bytes, expected: Reason) -> None:
    """Each fault has its own reason, and the body is kept as it came."""
    assert reason(body) is expected


def test_a_batch_keeps_its_order_and_its_faults() -> None:
    """Each element of a batch gets its record in its place, and equal ones have equal ids."""
    good = with_member('"data":"1"')
    for body in (
        b"[" + b",".join([good, b'{"data":1}', b"7", good]) + b"]",
        b"\n".join([good, b'{"data":1}', b"7", good]),
    ):
        first, nameless, number, last = decode(body)
        assert first == last == event(good)
        assert isinstance(nameless, Reject)
        assert (nameless.reason, nameless.body) == (Reason.MISSING_NAME, b'{"data":1}')
        assert isinstance(number, Reject)
        assert (number.reason, number.body) == (Reason.NOT_AN_OBJECT, b"7")
    assert decode("[]") == []


def test_other_modes_use_the_same_core() -> None:
    """What a stream or a subscription brings under its own names becomes the same event as by webhook."""
    attributes = {"version": "91"}
    found = record(
        lambda frame: reading(name="temp", device="d1", published_at=PUBLISHED, data=frame, attributes=attributes),
        *(b'{"t": 1}', b"raw", ORIGIN, IGNORE, RECEIVED),
    )
    assert found == event(with_member('"data":{"t": 1},"fw_version":91'))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
MEMBERS = st.dictionaries(
    st.sampled_from(["event", "data", "coreid", "published_at", "ttl"]) | st.text(max_size=4),
    VALUES | st.just(PUBLISHED),
    max_size=6,
)


@given(st.lists(MEMBERS, min_size=2, max_size=4), st.booleans(), st.booleans())
def test_every_element_gets_exactly_one_record(batch: list[dict[str, object]], as_array: bool, escaped: bool) -> None:
    """Whatever members have for values, NaN and Infinity too, an element is one record."""
    texts = [json.dumps(members, ensure_ascii=escaped).encode("utf-8", "surrogatepass") for members in batch]
    body = b"[" + b",".join(texts) + b"]" if as_array else b"\n".join(texts)
    found = decode(body)
    assert len(found) == len(batch)
    assert [one.body for one in found if isinstance(one, Reject)] == [
        text for text, one in zip(texts, found, strict=True) if isinstance(one, Reject)
    ]


SAMPLES = [
    with_member(rb'"data":"{\"t\":21.5}","fw_version":91'),
    with_member(b'"data":{"t":[1,2.5,null]}') + b"\n" + with_member(b'"data":"x"'),
    b"[" + with_member(b'"data":"x"') + b"," + with_member(b'"data":NaN') + b"]",
    b"event=demo&data=my%20data&published_at=2017-02-01T21%3A08%3A05.763Z&coreid=3f",
]


@given(st.sampled_from(SAMPLES), st.lists(st.tuples(st.integers(0, 300), st.integers(0, 4), st.binary(max_size=3))))
def test_mutated_bodies_never_make_it_raise(sample: bytes, edits: list[tuple[int, int, bytes]]) -> None:
    """A body with bytes cut out, changed and put in is events, rejects or too large, and can be stored."""
    body = sample
    for at, cut, put in edits:
        body = body[:at] + put + body[at + cut :]
    check(body)


@given(st.binary(max_size=200))
def test_random_bytes_never_make_it_raise(body: bytes) -> None:
    """Whatever the bytes, there is a record."""
    check(body)


def check(body: bytes) -> None:
    """Decoding gives records whose texts are Unicode without control characters where the store needs it."""
    try:
        found = decode(body, "")
    except TooLarge:
        return
    for one in found:
        if isinstance(one, Event):
            (one.name + (one.device or "") + (one.content_type or "") + "".join(one.attributes)).encode()
            assert "\0" not in one.name + (one.device or "") + (one.content_type or "")
