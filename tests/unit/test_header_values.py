"""The values of headers as their senders mean them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ingest.event import Event, Origin
from ingest.formats.generic import Fields, GenericFormat
from ingest.formats.header_values import header_text


def wire(text: str) -> str:
    """UTF-8 as the server hands it on."""
    return text.encode().decode("latin-1")


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("x-name", wire("Wärme 🌡"), "Wärme 🌡"),
        ("x-name", "W\xe4rme", "Wärme"),
        ("x-name", " t \t", "t"),
        ("x-name", "W%C3%A4rme 100%", "W%C3%A4rme 100%"),
        ("ce-type", "W%C3%A4rme", "Wärme"),
        ("ce-subject", "Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀"),
        ("ce-subject", wire("Wärme%20Ä"), "Wärme Ä"),
        ("ce-subject", '"a \\"b\\" %22c%22" ', 'a "b" "c"'),
        ("ce-subject", "100%", "100%"),
        ("ce-subject", "%E4", "%E4"),
        ("ce-subject", "%2541", "%41"),
        ("ce-subject", '"', '"'),
    ],
)
def test_a_header_says_what_its_sender_meant(name: str, value: str, text: str) -> None:
    """UTF-8 is read as that, white space around it is none of it, and only CloudEvents' attributes are unescaped."""
    assert header_text(name, value) == text


def test_events_have_the_texts_of_headers() -> None:
    """The fields of an event that stand in headers are read so."""
    fields = Fields(id="header:Ce-Id", name="header:Ce-Type", device="header:X-Device", time="header:Ce-Time")
    format_ = GenericFormat(Origin("p", "s", "webhook"), (), fields)
    headers = {
        "ce-id": "1%202",
        "ce-type": "W%C3%A4rme ",
        "x-device": wire("Gerät "),
        "ce-time": "2026-07-28T16:53:05Z ",
    }
    (found,) = format_.decode(b'{"v":1}', headers, datetime(2026, 7, 28, tzinfo=UTC))
    assert isinstance(found, Event)
    assert (found.name, found.device, found.published_at) == (
        "Wärme",
        "Gerät",
        datetime(2026, 7, 28, 16, 53, 5, tzinfo=UTC),
    )
