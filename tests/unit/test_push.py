"""A message that Pub/Sub pushes becomes the Event that it is by pull; a broken envelope is kept as it came."""

from __future__ import annotations

import json
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from google.cloud.pubsub_v1.subscriber.message import Message as Delivery
from google.pubsub_v1 import PubsubMessage
from hypothesis import example, given
from hypothesis import strategies as st

from ingest.event import Event, Ignored, Origin, Reason, Record, Reject
from ingest.formats import particle
from ingest.formats.message import Message
from ingest.formats.particle import ParticleFormat

RECEIVED = datetime(2026, 7, 28, 16, 53, 5, 702000, UTC)
QUEUED = datetime(2026, 7, 28, 16, 53, 5, 650000, UTC)
IGNORE = ("hook-sent/",)
PUSH = ParticleFormat(Origin("tracker", "fleet", "webhook"), IGNORE)
PULL = ParticleFormat(Origin("tracker", "fleet", "pubsub"), IGNORE)
PARTICLES = {"event": "temp", "device_id": "d1", "published_at": "2026-07-28T16:53:05.616Z"}


def envelope(**message: Any) -> bytes:
    """A push of a message with these members, as Google writes it."""
    return json.dumps({"message": message, "subscription": "projects/p/subscriptions/s"}, indent=2).encode()


def pushed(body: bytes) -> Record:
    """The one record of a request."""
    (found,) = PUSH.decode(body, {"content-type": "application/json"}, RECEIVED)
    return found


def event(body: bytes) -> Event:
    """As `pushed`, where that is an Event."""
    found = pushed(body)
    assert isinstance(found, Event), found
    return found


def pulled(data: bytes, attributes: dict[str, str], published_at: datetime = QUEUED, id_: str = "") -> Record:
    """What the same message is by pull."""
    (found,) = PULL.decode_message(Message(data, attributes, published_at, id_), RECEIVED)
    return found


def test_the_documented_envelope() -> None:
    """Google writes id and time in two ways, and more beside them that is no attribute."""
    body = rb"""{"deliveryAttempt": 5, "message": {"attributes": {"event": "test2data", "device_id": "1e00",
        "published_at": "2016-10-15T16:43:22.672Z", "fw_version": "91"}, "data": "eyJhIjoyNCwiYiI6MC45MTR9",
        "messageId": "63081800867788", "message_id": "63081800867788", "orderingKey": "key",
        "publishTime": "2016-10-15T16:43:22.749Z", "publish_time": "2016-10-15T16:43:22.749Z"},
        "subscription": "projects/myproject/subscriptions/mysubscription"}"""
    found = event(body)
    assert found == Event(
        id=found.id,
        product="tracker",
        device="1e00",
        name="test2data",
        data=b'{"a":24,"b":0.914}',
        content_type="application/json",
        published_at=datetime(2016, 10, 15, 16, 43, 22, 672000, UTC),
        received_at=RECEIVED,
        source="fleet",
        mode="webhook",
        attributes={"fw_version": "91"},
    )


def test_push_webhook_and_pull_are_one_identity() -> None:
    """The same event has the same id as a webhook of Particle's own, as a push and by pull."""
    by_push = event(envelope(data=b64encode(b'{"t":21.5}').decode(), attributes=PARTICLES))
    by_hook = event(
        b'{"event":"temp","data":{ "t": 21.5 },"published_at":"2026-07-28T16:53:05.616Z","coreid":"d1"}',
    )
    by_pull = pulled(b'{"t":21.5}', PARTICLES)
    assert isinstance(by_pull, Event)
    assert by_push.id == by_hook.id == by_pull.id


NAMES = st.sampled_from(["event", "device_id", "published_at", "version", "fw_version"]) | st.text(max_size=5)
ATTRIBUTES = st.dictionaries(NAMES, st.sampled_from(list(PARTICLES.values())) | st.text(max_size=9), max_size=5)


@given(st.binary(max_size=40) | st.text(max_size=40).map(str.encode), ATTRIBUTES | ATTRIBUTES.map(PARTICLES.__or__))
@example(b"", PARTICLES)
@example(b"x", {"event": "hook-sent/x"})
def test_a_push_is_what_its_message_is_by_pull(data: bytes, attributes: dict[str, str]) -> None:
    """Whatever data and attributes are: the same Event but for the mode, or a Reject for the same reason."""
    queued = {"publishTime": "2026-07-28T16:53:05.65Z", "messageId": "7"}
    body = envelope(data=b64encode(data).decode(), attributes=attributes, **queued)
    by_push, by_pull = pushed(body), pulled(data, attributes, id_="7")
    if isinstance(by_push, Reject):
        assert isinstance(by_pull, Reject)
        assert (by_push.reason, by_push.body) == (by_pull.reason, body)
    else:
        assert isinstance(by_pull, Event | Ignored)
        assert by_push == msgspec.structs.replace(by_pull, mode="webhook")


@given(st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1)), st.integers(0, 999))
def test_the_time_of_a_message_is_that_of_googles_client(at: datetime, nanoseconds: int) -> None:
    """An event without a time of its own has its message's, cut to microseconds as the client that pulls cuts it."""
    message = PubsubMessage()
    PubsubMessage.pb(message).publish_time.FromJsonString(f"{at.isoformat(timespec='microseconds')}{nanoseconds:03}Z")
    by_client = Delivery(PubsubMessage.pb(message), "ack", 0, None).publish_time
    body = envelope(attributes={"event": "e"}, publish_time=f"{at.isoformat(timespec='microseconds')}{nanoseconds:03}Z")
    assert abs(by_client - at.replace(tzinfo=UTC)) <= timedelta(microseconds=1)
    by_pull = pulled(b"", {"event": "e"}, by_client)
    assert isinstance(by_pull, Event)
    assert (event(body).id, event(body).published_at) == (by_pull.id, by_client)


@pytest.mark.parametrize("message", [{}, {"data": None}, {"data": ""}, {"data": None, "publishTime": None}])
def test_a_message_without_data_is_an_event_without_a_value(message: dict[str, object]) -> None:
    """Absent, null and empty data are no data, and the id of each is the same."""
    found = event(envelope(attributes=PARTICLES, **message))
    assert (found.data, found.content_type) == (None, None)
    assert found.id == event(b'{"event":"temp","published_at":"2026-07-28T16:53:05.616Z","coreid":"d1"}').id


def test_an_envelope_that_says_no_time_is_an_event_without_one() -> None:
    """Nobody's time is invented."""
    found = event(envelope(attributes={"event": "e"}))
    assert (found.published_at, found.identified) == (None, False)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"data": "%%%%"}, Reason.MALFORMED_PUSH),
        ({"data": "eA"}, Reason.MALFORMED_PUSH),
        ({"data": "e A=="}, Reason.MALFORMED_PUSH),
        ({"data": "äöü="}, Reason.MALFORMED_PUSH),
        ({"data": 5}, Reason.MALFORMED_PUSH),
        ({"data": {"t": 1}}, Reason.MALFORMED_PUSH),
        ({"attributes": "event"}, Reason.MALFORMED_PUSH),
        ({"attributes": ["event"]}, Reason.MALFORMED_PUSH),
        ({"attributes": {"event": 5}}, Reason.MALFORMED_PUSH),
        ({"attributes": {"event": None}}, Reason.MALFORMED_PUSH),
        ({"attributes": {"event": "e", "x": {}}}, Reason.MALFORMED_PUSH),
        ({"attributes": {"event": "e", "x": "\ud800"}}, Reason.INVALID_UTF8),
        ({"attributes": {"event": "e", "\ud800": "x"}}, Reason.INVALID_UTF8),
        ({"attributes": {"event": "e"}, "publishTime": "soon"}, Reason.BAD_TIME),
        ({"attributes": {"event": "e"}, "publishTime": 1785257585}, Reason.BAD_TIME),
        ({"attributes": {"event": "e"}, "publishTime": "9999-12-31T23:59:59.999999999Z"}, Reason.BAD_TIME),
        ({"attributes": {"event": "e", "published_at": "soon"}}, Reason.BAD_TIME),
        ({"attributes": {}}, Reason.MISSING_NAME),
        ({"attributes": None}, Reason.MISSING_NAME),
        ({"attributes": {"event": "a\0b"}}, Reason.BAD_NAME),
        ({}, Reason.MISSING_NAME),
    ],
)
def test_a_broken_envelope_is_kept_whole(message: dict[str, object], expected: Reason) -> None:
    """Each fault has a reason that fits, and the body is kept as it was sent."""
    body = envelope(**message)
    found = pushed(body)
    assert isinstance(found, Reject), found
    assert (found.reason, found.body) == (expected, body)


@given(st.recursive(st.none() | st.floats() | st.text(max_size=5), lambda one: st.dictionaries(st.text(), one)))
def test_no_envelope_makes_it_raise(value: object) -> None:
    """Whatever a member of the envelope holds, there is one record."""
    for body in (
        envelope(data=value, attributes=PARTICLES),
        envelope(attributes=value),
        envelope(attributes=PARTICLES, publishTime=value),
        json.dumps({"message": value, "subscription": value}).encode(),
    ):
        pushed(body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"event":"e","message":{"data":"eA=="},"subscription":"s"}',
        b'{"subscription":"s","message":{"attributes":{"event":"x"}},"event":"e"}',
    ],
)
def test_an_event_with_a_name_is_no_envelope(body: bytes) -> None:
    """A template of somebody's that also has a message and a subscription keeps them as attributes."""
    found = event(body)
    assert (found.name, found.attributes["subscription"]) == ("e", "s")
    assert found.data is None


@pytest.mark.parametrize("body", [b'{"message":{"attributes":{"event":"e"}}}', b'{"message":"m","subscription":"s"}'])
def test_half_an_envelope_is_none(body: bytes) -> None:
    """What has not the whole shape is an element without a name, as before."""
    found = pushed(body)
    assert isinstance(found, Reject)
    assert found.reason is Reason.MISSING_NAME


def test_usual_webhooks_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """What nearly all webhooks send is read without a thought of envelopes, so it costs them nothing."""
    monkeypatch.delattr(particle, "is_push")
    assert (
        event(b'{"event":"temp","data":"21.5","published_at":"2026-07-28T16:53:05.616Z","coreid":"d1"}').name == "temp"
    )
