"""The proof that a webhook request is authentic: one value per auth type of the configuration, pure, on the raw body.

Nothing that was sent makes these raise. Every secret is compared, in constant time and without stopping at a match;
only the length of a token may show in the time taken. No repr shows a secret, and nothing is logged.
"""

from __future__ import annotations

import hmac
from binascii import a2b_base64, unhexlify
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Protocol
from urllib.parse import unquote_to_bytes

Secrets = Callable[[], Sequence[str]]
"""The secrets in force now, several during a rotation. Asked at each request, so it should be cheap."""

Clock = Callable[[], float]
"""Unix seconds."""

Encoding = Literal["hex", "base64"]

TOLERANCE_SECONDS = 300
"""How far a signed timestamp may lie from our clock, either way (Standard Webhooks, Stripe)."""

MAX_CREDENTIAL_CHARACTERS = 8192
"""A longer header or query string holds no credential: what a stranger can make us compare is bounded."""


class Credentials(Protocol):
    """The proof that a request must show to be let in.

    `needs_body`: the verdict depends on it. Otherwise it is the same before the body has come, which is not read then.
    """

    needs_body: ClassVar[bool]

    def admits(self, headers: Mapping[str, str], query_string: bytes, body: bytes) -> bool | None:
        """Return True where the request is authentic; None where that cannot be told now, and it should be sent again.

        It must not wait for anything. `body` is as it came over the wire, before any inflation.
        Names in `headers` are lower-case, values decoded as latin-1. Different values of a repeated header are
        one, joined by commas, which is no credential.
        """
        ...


class KeyRefresher(Protocol):
    """The work that credentials need beside the requests: that somebody keeps up with keys which others change."""

    async def run(self) -> None:
        """Keep up, until cancelled."""
        ...

    def trouble(self) -> str | None:
        """Return why no request can be told to be authentic now; None where that is possible."""
        ...


@dataclass(frozen=True, slots=True)
class Anyone:
    """`none`: every request is let in."""

    needs_body: ClassVar[bool] = False

    def admits(self, headers: Mapping[str, str], query_string: bytes, body: bytes) -> bool:
        """Return True."""
        return True


@dataclass(frozen=True, slots=True)
class Header:
    """`header`: a secret as the value of the header `name`."""

    needs_body: ClassVar[bool] = False
    name: str
    secrets: Secrets = field(repr=False)

    def admits(self, headers: Mapping[str, str], query_string: bytes, body: bytes) -> bool:
        """Return True where the header is one of the secrets."""
        return _any_equal([_wire(_header(headers, self.name))], _in_force(self.secrets))


@dataclass(frozen=True, slots=True)
class Query:
    """`query`: a secret as the value of the query parameter `name`."""

    needs_body: ClassVar[bool] = False
    name: str
    secrets: Secrets = field(repr=False)

    def admits(self, headers: Mapping[str, str], query_string: bytes, body: bytes) -> bool:
        """Return True where the parameter is one of the secrets. Given twice it is ambiguous, and refused."""
        return _any_equal(_parameter(query_string, self.name.encode()), _in_force(self.secrets))


@dataclass(frozen=True, slots=True)
class Bearer:
    """`bearer`: `Authorization: Bearer <secret>` (RFC 6750 §2.1)."""

    needs_body: ClassVar[bool] = False
    secrets: Secrets = field(repr=False)

    def admits(self, headers: Mapping[str, str], query_string: bytes, body: bytes) -> bool:
        """Return True where the token is one of the secrets."""
        return _any_equal([_wire(authorization(headers, "bearer"))], _in_force(self.secrets))


@dataclass(frozen=True, slots=True)
class Basic:
    """`basic`: `Authorization: Basic <base64>` (RFC 7617); each secret is `user:password`, in UTF-8."""

    needs_body: ClassVar[bool] = False
    secrets: Secrets = field(repr=False)

    def admits(self, headers: Mapping[str, str], query_string: bytes, body: bytes) -> bool:
        """Return True where user and password together are one of the secrets."""
        return _any_equal([_decoded(authorization(headers, "basic"), "base64")], _in_force(self.secrets))


@dataclass(frozen=True, slots=True)
class Hmac:
    """`hmac`: HMAC-SHA256 (RFC 2104) over the raw body in `header`, encoded, after a fixed `prefix`."""

    needs_body: ClassVar[bool] = True
    header: str
    prefix: str
    encoding: Encoding
    secrets: Secrets = field(repr=False)

    def admits(self, headers: Mapping[str, str], query_string: bytes, body: bytes) -> bool:
        """Return True where the body was signed with one of the secrets."""
        value = _header(headers, self.header)
        if not value.startswith(self.prefix):
            return False
        offered = _decoded(value[len(self.prefix) :], self.encoding)
        return _any_equal([offered], _signatures(_in_force(self.secrets), body))


def github(secrets: Secrets) -> Hmac:
    """`github`: the hmac that GitHub documents under "Validating webhook deliveries"."""
    return Hmac("x-hub-signature-256", "sha256=", "hex", secrets)


@dataclass(frozen=True, slots=True)
class Stripe:
    """`stripe`: `Stripe-Signature: t=<seconds>,v1=<hex>[,v1=<hex>…]` over `t.body` ("Verify webhook signatures")."""

    needs_body: ClassVar[bool] = True
    secrets: Secrets = field(repr=False)
    clock: Clock = field(repr=False)

    def admits(self, headers: Mapping[str, str], query_string: bytes, body: bytes) -> bool:
        """Return True where one of the v1 signatures was made with one of the secrets, within the tolerance."""
        pairs = [pair.strip(" ").partition("=") for pair in _header(headers, "stripe-signature").split(",")]
        times = [value for name, _, value in pairs if name == "t"]
        if len(times) != 1 or not _fresh(times[0], self.clock()):
            return False
        offered = [_decoded(value, "hex") for name, _, value in pairs if name == "v1"]
        return _any_equal(offered, _signatures(_in_force(self.secrets), b"%b.%b" % (times[0].encode(), body)))


@dataclass(frozen=True, slots=True)
class StandardWebhooks:
    """`standard-webhooks`: `webhook-id`, `-timestamp` and `-signature` (Standard Webhooks 1.0.0), or Svix's `svix-…`.

    Not by the `standardwebhooks` library's verify: it reads the wall clock, refuses bodies that are not UTF-8, raises
    at one malformed signature among good ones, and stops at the first match.
    """

    needs_body: ClassVar[bool] = True
    secrets: Secrets = field(repr=False)
    clock: Clock = field(repr=False)

    def admits(self, headers: Mapping[str, str], query_string: bytes, body: bytes) -> bool:
        """Return True where one of the v1 signatures was made with one of the secrets, within the tolerance.

        An id with a full stop is refused: the specification forbids it, since id, time and body could be cut anew.
        """
        brand = "webhook" if "webhook-signature" in headers else "svix"
        message_id, timestamp = _header(headers, f"{brand}-id"), _header(headers, f"{brand}-timestamp")
        if not message_id or not message_id.isascii() or "." in message_id or not _fresh(timestamp, self.clock()):
            return False
        versions = _header(headers, f"{brand}-signature").split(" ")
        offered = [_decoded(one[3:], "base64") for one in versions if one.startswith("v1,")]
        signed = b"%b.%b.%b" % (message_id.encode(), timestamp.encode(), body)
        return _any_equal(offered, _signatures(map(webhook_key, self.secrets()), signed))


def webhook_key(secret: str) -> bytes:
    """Return the key in a Standard Webhooks secret: base64, padded or not, after `whsec_`. Empty where it is none."""
    encoded = secret.strip().removeprefix("whsec_")
    return _decoded(encoded + "=" * (-len(encoded) % 4), "base64")


def _in_force(secrets: Secrets) -> list[bytes]:
    return [secret.encode("utf-8", "surrogatepass") for secret in secrets()]


def _signatures(keys: Iterable[bytes], message: bytes) -> list[bytes]:
    # An empty key would let in whoever knows that it is empty.
    return [hmac.digest(key, message, "sha256") for key in keys if key]


def _any_equal(offered: Sequence[bytes], expected: Iterable[bytes]) -> bool:
    matched = False
    for one in expected:
        if one:  # an empty secret matches nothing, not even a missing header
            for candidate in offered:
                matched |= hmac.compare_digest(candidate, one)
    return matched


def _header(headers: Mapping[str, str], name: str) -> str:
    value = headers.get(name.lower(), "")
    return value if len(value) <= MAX_CREDENTIAL_CHARACTERS else ""


def authorization(headers: Mapping[str, str], scheme: str) -> str:
    """Return the credential in the header `Authorization` after this scheme (in lower case); empty where there is
    none.
    """
    sent, _, credential = _header(headers, "authorization").partition(" ")
    return credential.strip(" ") if sent.lower() == scheme else ""  # any case: RFC 9110 §11.1


def _parameter(query_string: bytes, name: bytes) -> list[bytes]:
    if len(query_string) > MAX_CREDENTIAL_CHARACTERS:
        return []
    pairs = [pair.partition(b"=") for pair in query_string.split(b"&")]
    values = [value for key, _, value in pairs if key == name or _unquoted(key) == name]
    if len(values) != 1:
        return []
    # A plus is itself in a URL (RFC 3986) and a space in a form: secrets in base64 come either way.
    return [_unquoted(values[0]), _unquoted(values[0].replace(b"+", b" "))]


def _unquoted(text: bytes) -> bytes:
    return unquote_to_bytes(text) if b"%" in text else text


def _wire(text: str) -> bytes:
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return b""


def _decoded(text: str, encoding: Encoding) -> bytes:
    try:
        return unhexlify(text) if encoding == "hex" else a2b_base64(text, strict_mode=True)
    except ValueError:  # also binascii.Error, and text that is not ASCII
        return b""


def _fresh(timestamp: str, now: float) -> bool:
    # The length is bounded because int() raises above 4,300 digits.
    digits = len(timestamp) <= 12 and timestamp.isascii() and timestamp.isdigit()
    return digits and abs(now - int(timestamp)) <= TOLERANCE_SECONDS
