"""Senders that are not Particle: pointers and headers find the parts of an event, the sender's id is its identity."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import ConfigurationError
from ingest.event import Event, Ignored, Origin, Reason, Record, Reject
from ingest.formats.generic import Fields, GenericFormat
from ingest.identity import event_id, sender_value

RECEIVED = datetime(2026, 7, 28, 16, 53, 5, 702000, UTC)
FORM = {"content-type": "application/x-www-form-urlencoded"}
ORIGIN = Origin(product="shop", source="hooks", mode="webhook")


def decode(fields: Fields, body: object, headers: Mapping[str, str] | None = None) -> list[Record]:
    """The records of a body, given as bytes or as what is to be written as JSON."""
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    return list(GenericFormat(ORIGIN, ["hook-sent/"], fields).decode(sent, headers or {}, RECEIVED))


def event(fields: Fields, body: object, headers: Mapping[str, str] | None = None) -> Event:
    """The one Event of a body."""
    (found,) = decode(fields, body, headers)
    assert isinstance(found, Event), found
    return found


def reason(fields: Fields, body: object, headers: Mapping[str, str] | None = None) -> Reason:
    """Why a body is one Reject."""
    (found,) = decode(fields, body, headers)
    assert isinstance(found, Reject), found
    return found.reason


def test_the_defaults() -> None:
    """Without configuration the parts are /name, /device and /time, and data is the whole element as sent."""
    source = b'{"name": "t", "device": "d", "time": "2026-07-28T16:53:05.616Z", "v": 1.50}'
    found = event(Fields(), b" " + source + b"\n")
    assert (found.name, found.device, found.data) == ("t", "d", source)
    assert found.published_at == datetime(2026, 7, 28, 16, 53, 5, 616000, UTC)
    assert (found.content_type, found.attributes) == ("application/json", {})
    assert found.id == event(Fields(), source.replace(b" ", b"")).id


def test_github() -> None:
    """The event's name and id are headers, and there is no time."""
    fields = Fields(
        id="header:X-GitHub-Delivery", name="header:X-GitHub-Event", device="/repository/full_name", time=None
    )
    body = {"action": "opened", "repository": {"full_name": "acme/pump"}}
    headers = {"x-github-delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958", "x-github-event": "issues"}
    found = event(fields, body, headers)
    assert (found.name, found.device, found.published_at) == ("issues", "acme/pump", None)
    assert found.identified
    assert found.id == event_id("shop", "acme/pump", "issues", None, sender_value(headers["x-github-delivery"]))
    assert event(fields, {**body, "action": "closed"}, headers).id == found.id
    assert event(fields, body, {**headers, "x-github-delivery": "other"}).id != found.id


def test_githubs_form() -> None:
    """A form whose only field is `payload` is that field's JSON: the same event as by `application/json`."""
    fields = Fields(name="/action", device="/repository/full_name", time=None)
    source = json.dumps({"action": "opened", "repository": {"full_name": "acme/pump + a"}})
    form = urlencode({"payload": source}).encode()
    assert event(fields, form, FORM).device == "acme/pump + a"
    assert event(fields, form, FORM).data == source.encode()
    several = decode(fields, urlencode({"payload": f"[{source}, 7, {source}]"}).encode(), FORM)
    assert [type(record) for record in several] == [Event, Reject, Event]


def test_a_payload_beside_other_fields_is_a_field() -> None:
    """Only a form of nothing else is an envelope."""
    found = event(Fields(data="/payload"), b"name=t&payload={}", FORM)
    assert (found.name, found.data) == ("t", b"{}")


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (b"", Reason.EMPTY),
        (b"hello%3D1", Reason.MALFORMED_JSON),
        (b"%7B%22a%22%3A", Reason.MALFORMED_JSON),
        (b"21.5", Reason.NOT_AN_OBJECT),
    ],
)
def test_a_payload_that_is_no_json_is_a_reject(payload: bytes, why: Reason) -> None:
    """The form is kept as it came, so that it can be read again."""
    (found,) = decode(Fields(), b"payload=" + payload, FORM)
    assert isinstance(found, Reject)
    assert (found.reason, found.body) == (why, b"payload=" + payload)


def test_stripe() -> None:
    """Id and Unix seconds stand in the body."""
    body = {
        "id": "evt_1",
        "type": "charge.succeeded",
        "created": 1785257585,
        "account": "acct_1",
        "data": {"object": {}},
    }
    found = event(Fields(id="/id", name="/type", time="/created", device="/account", data="/data/object"), body)
    assert (found.name, found.device, found.data) == ("charge.succeeded", "acct_1", b"{}")
    assert found.published_at == datetime(2026, 7, 28, 16, 53, 5, tzinfo=UTC)


def test_golioth() -> None:
    """CloudEvents in headers, the value as body."""
    fields = Fields(id="header:Ce-Id", name="header:Ce-Type", time="header:Ce-Time", device="header:Ce-Subject")
    headers = {"ce-id": "1", "ce-type": "stream", "ce-time": "2026-07-28T16:53:05Z", "ce-subject": "dev-7"}
    found = event(fields, b'{"temp": 21.5}', headers)
    assert (found.name, found.device, found.data) == ("stream", "dev-7", b'{"temp": 21.5}')
    assert found.published_at == datetime(2026, 7, 28, 16, 53, 5, tzinfo=UTC)


def test_notehub() -> None:
    """Notehub's names, with seconds as a number."""
    body = {"event": "e-1", "device": "dev:864475", "file": "sensors.qo", "when": 1785257585, "body": {"t": 21.5}}
    found = event(Fields(id="/event", name="/file", time="/when", data="/body"), body)
    assert (found.name, found.device, found.data) == ("sensors.qo", "dev:864475", b'{"t": 21.5}')
    assert found.published_at == datetime(2026, 7, 28, 16, 53, 5, tzinfo=UTC)


def test_the_things_stack() -> None:
    """Deep pointers, an index into an array, and nanoseconds."""
    fields = Fields(
        id="/correlation_ids/0",
        name="/end_device_ids/application_ids/application_id",
        device="/end_device_ids/device_id",
        time="/received_at",
        data="/uplink_message/frm_payload",
    )
    body = {
        "end_device_ids": {"device_id": "dev1", "application_ids": {"application_id": "app1"}},
        "correlation_ids": ["as:up:01E0WZGT6Y7657CPFPE5WEYDSQ", "gs:conn:1"],
        "received_at": "2026-07-28T16:53:05.616123456Z",
        "uplink_message": {"frm_payload": "AAEC"},
    }
    found = event(fields, body)
    assert (found.name, found.device, found.data) == ("app1", "dev1", b"AAEC")
    assert found.published_at == datetime(2026, 7, 28, 16, 53, 5, 616123, UTC)
    assert found.id != event(fields, {**body, "correlation_ids": ["other"]}).id


def test_svix() -> None:
    """A resend has the same webhook-id, and is the same event whatever its timestamp."""
    fields = Fields(id="header:webhook-id", name="/type", device=None, time=None)
    one = event(fields, {"type": "invoice.paid", "n": 1}, {"webhook-id": "msg_1", "webhook-timestamp": "1785257585"})
    two = event(fields, {"type": "invoice.paid", "n": 1}, {"webhook-id": "msg_1", "webhook-timestamp": "1785257600"})
    assert one.id == two.id
    assert one.id.int >> 80 == 0


def test_an_id_in_a_header_names_the_request_and_not_each_of_its_elements() -> None:
    """A batch under one id is as many events, and the same ones when it is sent again."""
    fields = Fields(id="header:webhook-id", name="/type")
    batch = [{"type": "a", "n": n} for n in range(3)]
    ids = [one.id for one in decode(fields, batch, {"webhook-id": "m"}) if isinstance(one, Event)]
    assert len(set(ids)) == 3
    assert ids == [one.id for one in decode(fields, batch, {"webhook-id": "m"}) if isinstance(one, Event)]


@pytest.mark.parametrize("absent", [{}, {"id": None}, {"id": ""}])
def test_without_its_id_an_event_is_known_by_its_data(absent: dict[str, object]) -> None:
    """Two that differ in data are two, and a copy is one, as where no id is configured."""
    body = {"name": "t", "time": 1785257585, **absent}
    one = event(Fields(id="/id"), {**body, "v": 1})
    assert one.id == event(Fields(id="/id"), {**body, "v": 1}).id == event(Fields(), {**body, "v": 1}).id
    assert one.id != event(Fields(id="/id"), {**body, "v": 2}).id


def test_an_id_may_be_a_number() -> None:
    """Its literal counts, of any length."""
    fields = Fields(id="/id", time=None)
    ids = {event(fields, b'{"name":"t","id":%b}' % n).id for n in (b"1", b"1.0", b"9" * 5000, b'"x"')}
    assert len(ids) == 4
    assert event(fields, b'{"name":"t","id":"1"}').id in ids


@pytest.mark.parametrize("value", [{"a": 1}, [1], True])
def test_an_id_that_is_no_scalar_is_bad(value: object) -> None:
    """An object, an array or a boolean names nothing."""
    assert reason(Fields(id="/id"), {"name": "t", "id": value}) is Reason.BAD_ID


@pytest.mark.parametrize(
    ("time", "seconds"),
    [
        (1785257585, 1785257585.0),
        (1785257585.5, 1785257585.5),
        (1785257585500, 1785257585.5),
        ("1785257585.5", 1785257585.5),
        ("2026-07-28T18:53:05.500+02:00", 1785257585.5),
        (0, 0.0),
        (-1, -1.0),
    ],
)
def test_times_are_rfc_3339_or_unix(time: object, seconds: float) -> None:
    """Text, seconds or milliseconds, as a number or as digits in a text."""
    found = event(Fields(), {"name": "t", "time": time})
    assert found.published_at == datetime.fromtimestamp(seconds, UTC)


@pytest.mark.parametrize("time", ["soon", True, {}, [1], 1e300, 99999999999999999999])
def test_other_times_are_bad(time: object) -> None:
    """What is no time is kept aside and never taken for now."""
    assert reason(Fields(), {"name": "t", "time": time}) is Reason.BAD_TIME


def test_forms_are_read_by_their_fields_names() -> None:
    """A pointer of one token is a field, deeper ones find nothing, and the whole element is the body."""
    found = event(Fields(id="/a/b"), b"name=t+1&device=d&time=1785257585&x=%ff", FORM)
    assert (found.name, found.device, found.data) == ("t 1", "d", b"name=t+1&device=d&time=1785257585&x=%ff")
    assert found.published_at == datetime(2026, 7, 28, 16, 53, 5, tzinfo=UTC)
    assert event(Fields(data="/x"), b"name=t&x=%ff", FORM).data == b"\xff"


def test_pointers_follow_rfc_6901() -> None:
    """The escapes, indexes and odd keys of the standard's own example."""
    document = {"foo": ["bar", "baz"], "": 0, "a/b": 1, "c%d": 2, " ": 7, "m~n": 8, "o": {"0": 9}, "name": "t"}
    expected = {
        "/foo": b'["bar", "baz"]',
        "/foo/0": b"bar",
        "/foo/1": b"baz",
        "/": b"0",
        "/a~1b": b"1",
        "/c%d": b"2",
        "/ ": b"7",
        "/m~0n": b"8",
        "/o/0": b"9",
        **dict.fromkeys(("/foo/2", "/foo/-", "/foo/01", "/foo/x", "/foo/0/x", "/nothing/at/all", "/name/x")),
    }
    assert {pointer: event(Fields(data=pointer), document).data for pointer in expected} == expected


def test_pointers_find_their_way_through_what_msgspec_refuses() -> None:
    """A NaN or a lone surrogate beside the way does not hide the value."""
    body = rb'{"name":"t","a":[NaN,{"b":"\ud800","c":[1, Infinity]}]}'
    assert event(Fields(data="/a/1/c"), body).data == b"[1, Infinity]"
    assert event(Fields(data="/a/1/b"), body).data == b"\xed\xa0\x80"


@pytest.mark.parametrize(
    "fields",
    [Fields(id="id"), Fields(name="/a~2"), Fields(device="header:"), Fields(time="header:a b"), Fields(data="#/a")],
)
def test_a_place_that_cannot_be_read_is_a_configuration_error(fields: Fields) -> None:
    """The message names the key, at the start and not at the first event."""
    with pytest.raises(ConfigurationError, match=r"^fields\.(id|name|device|time|data): expected a JSON pointer"):
        GenericFormat(ORIGIN, [], fields)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"{}", Reason.MISSING_NAME),
        (b'{"name":""}', Reason.MISSING_NAME),
        (b'{"name":7}', Reason.BAD_NAME),
        (b'{"name":"\xff"}', Reason.INVALID_UTF8),
        (b'{"name":"t","device":{}}', Reason.BAD_DEVICE),
        (b"[1", Reason.MALFORMED_JSON),
        (b'{"name":"t","x":' + b"[" * 65 + b"]" * 65 + b"}", Reason.TOO_DEEP),
    ],
)
def test_bad_input_is_kept_with_its_reason(body: bytes, expected: Reason) -> None:
    """The rules for names, devices and JSON are those of every format."""
    assert reason(Fields(), body) is expected


def test_ignored_names_are_ignored() -> None:
    """The prefixes count for any sender."""
    assert decode(Fields(), {"name": "hook-sent/x"}) == [
        Ignored(source="hooks", mode="webhook", received_at=RECEIVED),
    ]


def test_bytes_that_are_no_utf8_are_stored_inside_data() -> None:
    """The whole element is data: odd bytes and keys in it are kept."""
    body = b'{"name":"t","\xff":"\xfe","n":NaN}'
    assert event(Fields(), body).data == body


@given(
    st.binary(max_size=60) | st.text('{}[]",:\\ \n1=&namedvictm/0', max_size=60).map(str.encode),
    st.sampled_from([Fields(), Fields(id="/id", name="/a/0"), Fields(id="", name="", data="/a", device="", time="")]),
)
def test_no_body_makes_it_raise(body: bytes, fields: Fields) -> None:
    """Whatever comes has its records."""
    assert decode(fields, body) or body.strip()[:1] == b"[" or body.startswith(b"\xef\xbb\xbf")
