"""What the vendor says of its webhooks, read from the events that are ignored; and counted when they are settled."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from ingest.event import EchoOutcome, Event, HookEcho, Ignored, Origin
from ingest.formats import make_format
from ingest.formats.hook_echoes import echo_of
from ingest.formats.message import Message
from ingest.formats.sse import Frame

AT = datetime(2026, 7, 28, 16, 53, 5, tzinfo=UTC)
IGNORE = ("hook-sent/", "hook-response/", "hook-error/", "debug/")
SLEEPING = b"Sleeping, too many errors on hooks.example.com"
FORMAT = make_format("particle", Origin("tracker", "fleet", "any"), IGNORE, {})
GENERIC = make_format("generic", Origin("p", "s", "any"), IGNORE, {})


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("hook-sent/loc", None, ("loc", "sent")),
        ("hook-sent/alarm/3", None, ("alarm/3", "sent")),
        ("e00fce/hook-sent/loc", b"", ("loc", "sent")),
        ("hook-response/loc/0", b"ok", ("loc", "response")),
        ("hook-response/alarm/3/12", b"ok", ("alarm/3", "response")),
        ("e00fce/hook-response/loc/0", b"ok", ("loc", "response")),
        ("hook-response/loc", b"ok", ("loc", "response")),
        ("hook-error/loc/0", b"error status 503 from hooks.example.com", ("loc", "error")),
        ("hook-error/loc/0", None, ("loc", "error")),
        ("hook-error/loc/0", SLEEPING, ("loc", "skipped")),
        ("hook-error/loc", b'"sleeping"', ("loc", "skipped")),
        ("hook-error/loc/0", b'{"error": "Too many errors, skipped"}', ("loc", "skipped")),
        ("hook-sent/loc", SLEEPING, ("loc", "sent")),
        ("hook-response/loc/0", SLEEPING, ("loc", "response")),
        ("hook-sent/", None, ("", "sent")),
        ("hook-sent/hook-error/loc/0", None, ("hook-error/loc/0", "sent")),
        ("hook-sent", None, None),
        ("hook-other/loc", None, None),
        ("a/b/hook-sent/loc", None, None),
        ("xhook-sent/loc", None, None),
        ("debug/x", SLEEPING, None),
    ],
)
def test_the_name_and_its_data_say_what_became_of_a_webhook(
    name: str, data: bytes | None, expected: tuple[str, str] | None
) -> None:
    """The event that it was for, without the number of the part, and the outcome."""
    assert echo_of(name, data) == (None if expected is None else HookEcho(expected[0], EchoOutcome(expected[1])))


def test_every_mode_hears_the_same() -> None:
    """A webhook, a stream and a subscription bring the vendor's word alike."""
    members = {"data": SLEEPING.decode(), "coreid": "d1", "published_at": "2026-07-28T16:53:05.616Z"}
    name = "hook-error/loc/0"
    body = json.dumps({"event": name, **members}).encode()
    attributes = {"event": name, "device_id": "d1"}

    found = [
        *FORMAT.decode(body, {}, AT),
        *FORMAT.decode_frames([Frame(name.encode(), json.dumps(members).encode(), b"")], 1, AT),
        *FORMAT.decode_message(Message(SLEEPING, attributes, None), AT),
    ]
    echo = HookEcho("loc", EchoOutcome.SKIPPED)
    assert found == [Ignored(source="fleet", mode="any", received_at=AT, echo=echo)] * 3


def test_only_what_is_ignored_is_an_echo() -> None:
    """What `ignore` lets through is an event; what it leaves out for another reason says nothing of webhooks."""
    keeping = make_format("particle", Origin("tracker", "fleet", "any"), ("debug/",), {})
    (kept,) = keeping.decode(b'{"event": "hook-sent/loc"}', {}, AT)
    (left_out,) = keeping.decode(b'{"event": "debug/loc"}', {}, AT)

    assert isinstance(kept, Event)
    assert left_out == Ignored(source="fleet", mode="any", received_at=AT)


def test_other_senders_have_no_such_thing() -> None:
    """By the generic format a name is a name, whichever way it comes."""
    body = b'{"name": "hook-sent/loc"}'
    found = [
        *GENERIC.decode(body, {}, AT),
        *GENERIC.decode_frames([Frame(b"", body, b"")], 1, AT),
        *GENERIC.decode_message(Message(body, {}, None), AT),
    ]
    assert found == [Ignored(source="s", mode="any", received_at=AT)] * 3
