"""Credentials by which a request's body is signed with a secret that is not sent; rules as for the others."""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import ClassVar

from ingest.sources.webhook.credentials import Encoding, Secrets, any_equal, decoded, header_value, in_force

Clock = Callable[[], float]
"""Unix seconds."""

TOLERANCE_SECONDS = 300
"""How far a signed timestamp may lie from our clock, either way (Standard Webhooks, Stripe)."""


@dataclass(frozen=True, slots=True)
class Hmac:
    """`hmac`: HMAC-SHA256 (RFC 2104) over the raw body in `header`, encoded, after a fixed `prefix`."""

    needs_body: ClassVar[bool] = True
    challenge: ClassVar[str] = "Headrace-HMAC"
    header: str
    prefix: str
    encoding: Encoding
    secrets: Secrets = field(repr=False)

    def admits(self, headers: Mapping[str, str], query_string: bytes, body: bytes) -> bool:
        """Return True where one of the signatures in the header, perhaps a list, was made with one of the secrets."""
        sent = _after(self.prefix).findall(header_value(headers, self.header))
        offered = [decoded(signature, self.encoding) for signature in sent]
        return any_equal(offered, _signatures(in_force(self.secrets), body))


def github(secrets: Secrets) -> Hmac:
    """Return `github`, the hmac that GitHub documents under "Validating webhook deliveries"."""
    return Hmac("x-hub-signature-256", "sha256=", "hex", secrets)


@dataclass(frozen=True, slots=True)
class Stripe:
    """`stripe`: `Stripe-Signature: t=<seconds>,v1=<hex>[,v1=<hex>…]` over `t.body` ("Verify webhook signatures")."""

    needs_body: ClassVar[bool] = True
    challenge: ClassVar[str] = "Headrace-Stripe"
    secrets: Secrets = field(repr=False)
    clock: Clock = field(repr=False)

    def admits(self, headers: Mapping[str, str], query_string: bytes, body: bytes) -> bool:
        """Return True where one of the v1 signatures was made with one of the secrets, within the tolerance."""
        pairs = [pair.partition("=") for pair in header_value(headers, "stripe-signature").split(",")]
        values = [(name.strip(), value.strip()) for name, _, value in pairs]
        times = [value for name, value in values if name == "t"]
        if len(times) != 1 or not _fresh(times[0], self.clock()):
            return False
        offered = [decoded(value, "hex") for name, value in values if name == "v1"]
        return any_equal(offered, _signatures(in_force(self.secrets), b"%b.%b" % (times[0].encode(), body)))


@dataclass(frozen=True, slots=True)
class StandardWebhooks:
    """`standard-webhooks`: `webhook-id`, `-timestamp` and `-signature` (Standard Webhooks 1.0.0), or Svix's `svix-…`.

    Not by the `standardwebhooks` library's verify: it reads the wall clock, refuses bodies that are not UTF-8, raises
    at one malformed signature among good ones, and stops at the first match.
    """

    needs_body: ClassVar[bool] = True
    challenge: ClassVar[str] = "Headrace-Standard-Webhooks"
    secrets: Secrets = field(repr=False)
    clock: Clock = field(repr=False)

    def admits(self, headers: Mapping[str, str], query_string: bytes, body: bytes) -> bool:
        """Return True where one of the v1 signatures was made with one of the secrets, within the tolerance.

        An id with a full stop is refused: the specification forbids it, since id, time and body could be cut anew.
        """
        brand = "webhook" if "webhook-signature" in headers else "svix"
        message_id, timestamp = (header_value(headers, f"{brand}-{part}").strip() for part in ("id", "timestamp"))
        if not message_id or not message_id.isascii() or "." in message_id or not _fresh(timestamp, self.clock()):
            return False
        sent = _after("v1,").findall(header_value(headers, f"{brand}-signature"))
        offered = [decoded(signature, "base64") for signature in sent]
        signed = b"%b.%b.%b" % (message_id.encode(), timestamp.encode(), body)
        return any_equal(offered, _signatures(map(webhook_key, self.secrets()), signed))


def webhook_key(secret: str) -> bytes:
    """Return the key in a Standard Webhooks secret: base64, padded or not, after `whsec_`. Empty where it is none."""
    encoded = secret.strip().removeprefix("whsec_")
    return decoded(encoded + "=" * (-len(encoded) % 4), "base64")


@cache
def _after(prefix: str) -> re.Pattern[str]:
    """Return what finds the signatures behind a prefix: one, or several with commas or white space between them."""
    return re.compile(rf"(?:\A|[\s,;]){re.escape(prefix.strip())}\s*([0-9A-Za-z+/=]+)(?=[\s,;]|\Z)")


def _signatures(keys: Iterable[bytes], message: bytes) -> list[bytes]:
    # An empty key would let in whoever knows that it is empty.
    return [hmac.digest(key, message, "sha256") for key in keys if key]


def _fresh(timestamp: str, now: float) -> bool:
    # The length is bounded because int() raises above 4,300 digits.
    digits = len(timestamp) <= 12 and timestamp.isascii() and timestamp.isdigit()
    return digits and abs(now - int(timestamp)) <= TOLERANCE_SECONDS
