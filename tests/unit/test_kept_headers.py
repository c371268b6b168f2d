"""A reject keeps what may help to read it again, and nothing that lets anybody in."""

from __future__ import annotations

import pytest

from ingest.sources.webhook.credentials import Anyone, Bearer, Header, Query
from ingest.sources.webhook.kept_headers import MOST_CHARACTERS, kept_headers
from ingest.sources.webhook.signatures import Hmac, github

SECRET = "s3cret/+ value"
PLAIN = {"content-type": "application/json", "x-request-id": "r1", "host": "example.org", "user-agent": "hook/1"}


def secrets() -> list[str]:
    """As configured, with one that is empty."""
    return ["", SECRET]


@pytest.mark.parametrize(
    "name",
    [
        *("authorization", "proxy-authorization", "cookie", "x-auth-token", "x-api-key", "apikey", "x-particle-key"),
        *("x-hub-signature-256", "stripe-signature", "webhook-signature", "svix-signature", "x-amz-security-token"),
        *("x-goog-iap-jwt-assertion", "x-client-secret", "x-forwarded-access-token", "x-session", "x-password"),
    ],
)
def test_what_may_hold_credentials_is_left_out(name: str) -> None:
    """Also where this source lets everybody in: the sender may use the same secret elsewhere."""
    assert kept_headers(PLAIN | {name: SECRET}, Anyone(), {"content-type"}) == PLAIN


@pytest.mark.parametrize(
    "credentials", [Header("X-Fleet", secrets), Hmac("X-Fleet", "", "hex", secrets)], ids=["header", "hmac"]
)
def test_the_configured_header_is_left_out(credentials: Header | Hmac) -> None:
    """Whatever it is called, and also where the format reads it."""
    for needed in (set[str](), {"x-fleet"}):
        assert kept_headers(PLAIN | {"x-fleet": SECRET}, credentials, needed) == PLAIN


def test_usual_credentials_are_left_out_though_the_format_reads_them() -> None:
    """A place in the configuration makes them no less secret."""
    for name in ("authorization", "cookie"):
        assert kept_headers(PLAIN | {name: SECRET}, Bearer(secrets), {name}) == PLAIN


@pytest.mark.parametrize("written", [SECRET, "s3cret%2F%2B%20value", "s3cret%2F%2B+value"])
def test_a_url_with_the_secret_is_left_out(written: str) -> None:
    """Proxies tell the URL of a request in headers of many names."""
    headers = PLAIN | {
        "x-original-uri": f"/ingest/fleet?key={written}",
        "referer": f"https://example.org/?key={written}",
    }
    assert kept_headers(headers, Query("key", secrets), set()) == PLAIN


def test_what_the_format_reads_is_kept() -> None:
    """Without it the element would have another identity."""
    named = {"x-message-key": "m1", "idempotency-key": "i1", "x-github-delivery": "d1"}
    assert kept_headers(PLAIN | named, github(secrets), {"x-message-key"}) == PLAIN | named


def test_no_reject_is_heavy_with_headers() -> None:
    """What the format reads comes first; what does not fit is left out."""
    headers = {"a": "x" * 3000, "b": "x" * 3000, "c": "x", "read": "x" * 1000}
    kept = kept_headers(headers, Anyone(), {"read"})
    assert list(kept) == ["read", "a", "c"]
    assert sum(len(name) + len(value) for name, value in kept.items()) <= MOST_CHARACTERS
