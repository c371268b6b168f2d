"""Records lie in a spool in a form that later versions read too: an upgrade comes while PostgreSQL is away."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from msgspec import structs

from ingest.event import EchoOutcome, Event, HookEcho, Ignored, Reason, Record, Reject
from storage.transactions import pack, unpack

AT = datetime(2026, 7, 28, 16, 53, 5, 616_000, tzinfo=UTC)
RECORDS: list[Record] = [
    Event(
        id=UUID("0199f3a2-7c11-8b52-9f0e-3c5a7d1e2f40"),
        product="tracker",
        device="d1",
        name="t",
        data=b"21.5",
        content_type="text/plain",
        published_at=None,
        received_at=AT,
        source="fleet",
        mode="webhook",
        attributes={"a": "b"},
        stream=2,
    ),
    Reject(source="fleet", mode="sse", received_at=AT, reason=Reason.MALFORMED_JSON, body=b"{", element=3),
    Ignored(source="fleet", mode="sse", received_at=AT),
]
# Written by the first version that had a spool. It must be readable for ever: change the reader, not this.
KEPT = bytes.fromhex(
    "939ea54576656e74c4100199f3a27c118b529f0e3c5a7d1e2f40a7747261636b6572a26431a174c40432312e35aa7465"
    "78742f706c61696ec0d7ff92dda8006a68de71a5666c656574a7776562686f6f6b81a161a16202c099a652656a656374"
    "a5666c656574a3737365d7ff92dda8006a68de71ae6d616c666f726d65645f6a736f6ec4017bc0c00394a749676e6f72"
    "6564a5666c656574a3737365d7ff92dda8006a68de71"
)


def test_what_an_earlier_version_kept_is_read() -> None:
    """The bytes of the first version are the records that they were."""
    assert unpack(KEPT, list[Record]) == RECORDS


def test_what_an_earlier_version_did_not_know_is_read() -> None:
    """What is kept now has members more, and is read back with them."""
    echo = HookEcho("loc", EchoOutcome.SKIPPED)
    records = [structs.replace(RECORDS[0], message="m1"), structs.replace(RECORDS[2], echo=echo)]
    assert unpack(pack(records), list[Record]) == records


def test_half_a_character_is_kept() -> None:
    """What is no UTF-8 is written another way, and read back."""
    records: list[Record] = [Ignored(source="\ud800", mode="sse", received_at=AT)]
    assert unpack(pack(records), list[Record]) == records
