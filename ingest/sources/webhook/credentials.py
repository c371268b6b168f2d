"""The proof that a webhook request is authentic: one value per auth type of the configuration, pure, on the raw body.

Nothing that was sent makes these raise. Every secret is compared, in constant time and without stopping at a match;
only the length of a token may show in the time taken. No repr shows a secret, and nothing is logged.
"""

from __future__ import annotations

from binascii import a2b_base64, unhexlify
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hmac import compare_digest
from typing import ClassVar, Literal, Protocol
from urllib.parse import unquote_to_bytes

Secrets = Callable[[], Sequence[str]]
"""The secrets in force now, several during a rotation. Asked at each request, so it should be cheap."""

Encoding = Literal["hex", "base64"]

MAX_CREDENTIAL_CHARACTERS = 8192
"""A longer header or query string holds no credential: what a stranger can make us compare is bounded."""


class Credentials(Protocol):
    """The proof that a request must show to be let in.

    `needs_body`: the verdict depends on it. Otherwise it is the same before the body has come, which is not read then.
    `challenge`: the scheme that a 401 asks for (RFC 9110 §11.6.1), one of our own where HTTP has none.
    """

    needs_body: ClassVar[bool]
    challenge: ClassVar[str]

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
    challenge: ClassVar[str] = "Headrace-None"

    def admits(self, headers: Mapping[str, str], query_string: bytes, body: bytes) -> bool:
        """Return True."""
        return True


@dataclass(frozen=True, slots=True)
class Header:
    """`header`: a secret as the value of the header `name`."""

    needs_body: ClassVar[bool] = False
    challenge: ClassVar[str] = "Headrace-Header"
    name: str
    secrets: Secrets = field(repr=False)

    def admits(self, headers: Mapping[str, str], query_string: bytes, body: bytes) -> bool:
        """Return True where the header is one of the secrets, white space around it left out (RFC 9110 §5.5)."""
        value = _wire(header_value(headers, self.name))
        return any_equal([value, value.strip(b" \t")], in_force(self.secrets))


@dataclass(frozen=True, slots=True)
class Query:
    """`query`: a secret as the value of the query parameter `name`."""

    needs_body: ClassVar[bool] = False
    challenge: ClassVar[str] = "Headrace-Query"
    name: str
    secrets: Secrets = field(repr=False)

    def admits(self, headers: Mapping[str, str], query_string: bytes, body: bytes) -> bool:
        """Return True where the parameter is one of the secrets. Given twice it is ambiguous, and refused."""
        return any_equal(_parameter(query_string, self.name.encode()), in_force(self.secrets))


@dataclass(frozen=True, slots=True)
class Bearer:
    """`bearer`: `Authorization: Bearer <secret>` (RFC 6750 §2.1)."""

    needs_body: ClassVar[bool] = False
    challenge: ClassVar[str] = "Bearer"
    secrets: Secrets = field(repr=False)

    def admits(self, headers: Mapping[str, str], query_string: bytes, body: bytes) -> bool:
        """Return True where the token is one of the secrets."""
        return any_equal([_wire(authorization(headers, "bearer"))], in_force(self.secrets))


@dataclass(frozen=True, slots=True)
class Basic:
    """`basic`: `Authorization: Basic <base64>` (RFC 7617); each secret is `user:password`, in UTF-8."""

    needs_body: ClassVar[bool] = False
    challenge: ClassVar[str] = "Basic"
    secrets: Secrets = field(repr=False)

    def admits(self, headers: Mapping[str, str], query_string: bytes, body: bytes) -> bool:
        """Return True where user and password together are one of the secrets."""
        return any_equal([decoded(authorization(headers, "basic"), "base64")], in_force(self.secrets))


def in_force(secrets: Secrets) -> list[bytes]:
    """Return the secrets in force now as bytes."""
    return [secret.encode("utf-8", "surrogatepass") for secret in secrets()]


def any_equal(offered: Sequence[bytes], expected: Iterable[bytes]) -> bool:
    """Return whether one of those that were offered is expected; compares them all, each in constant time."""
    matched = False
    for one in expected:
        if one:  # an empty secret matches nothing, not even a missing header
            for candidate in offered:
                matched |= compare_digest(candidate, one)
    return matched


def header_value(headers: Mapping[str, str], name: str) -> str:
    """Return a header; empty where there is none, or a longer one than any credential."""
    value = headers.get(name.lower(), "")
    return value if len(value) <= MAX_CREDENTIAL_CHARACTERS else ""


def authorization(headers: Mapping[str, str], scheme: str) -> str:
    """Return the credential in the header `Authorization` after this scheme (in lower case); empty where there is
    none.
    """
    sent, _, credential = header_value(headers, "authorization").strip(" \t").partition(" ")
    return credential.strip(" \t") if sent.lower() == scheme else ""  # any case: RFC 9110 §11.1


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


def decoded(text: str, encoding: Encoding) -> bytes:
    """Return the bytes that a text stands for; empty where it is none of that encoding."""
    try:
        return unhexlify(text) if encoding == "hex" else a2b_base64(text, strict_mode=True)
    except ValueError:  # also binascii.Error, and text that is not ASCII
        return b""
