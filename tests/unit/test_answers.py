"""What upstream's answers and the network's faults are called; tests with sockets are in integration/test_sse.py."""

from __future__ import annotations

from datetime import UTC, datetime

import httpx
import pytest

from ingest.event import Cause
from ingest.retry_after import parse_retry_after
from ingest.sources.sse.answers import explain
from ingest.sources.sse.inflate import Identity, inflater_for

NOW = datetime(2026, 7, 28, 16, 53, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("0", 0.0),
        ("Tue, 28 Jul 2026 16:54:05 GMT", 60.0),
        ("Tuesday, 28-Jul-26 16:54:05 GMT", 60.0),
        ("Tue, 28 Jul 2026 16:00:00 GMT", 0.0),
        ("99999999999999999999", 3600.0),
        ("Fri, 28 Jul 2028 16:54:05 GMT", 3600.0),
        ("soon", None),
        ("-5", None),
        ("\xb2", None),
        ("", None),
    ],
)
def test_retry_after(value: str | None, seconds: float | None) -> None:
    """Seconds or a date, at most an hour; nonsense is no wish."""
    assert parse_retry_after(value, NOW, 3600.0) == seconds


def test_what_may_hold_our_headers_is_not_quoted() -> None:
    """httpx's own sentence about a header that cannot be sent shows the header, and so the token."""
    loss = explain(
        httpx.LocalProtocolError("Illegal header value b'Bearer t0ken'"), listening=False, ended=False, seconds=20
    )
    assert (loss.cause, loss.reason) == (Cause.ERROR, "the request failed (LocalProtocolError)")


@pytest.mark.parametrize("name", ["", "identity", " Identity "])
def test_no_coding(name: str) -> None:
    """Bytes stand for themselves."""
    inflater = inflater_for(name)
    assert isinstance(inflater, Identity)
    assert list(inflater.feed(b"data: x")) == [b"data: x"]
    assert not inflater.pending


def test_other_codings_are_refused() -> None:
    """There is no guessing."""
    assert inflater_for("br") is None
    assert inflater_for("gzip, br") is None
