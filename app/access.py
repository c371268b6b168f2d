"""The rules of reading and acting: contract §7 as pure functions of a request's method, path and headers.

With tokens configured a token decides. Without any, a server on loopback can be read by people and programs of this
machine only: whatever a proxy passed on, or a web page caused, is refused. Actions always take a token: where no admin
token is configured, the one that `serve` made at its start.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

Headers = Sequence[tuple[bytes, bytes]]  # names in lower case, as ASGI gives them

_PAGES = ("/", "/balance", "/devices", "/docs")
_DATA = ("/metrics", "/openapi.json")
# What proxies, load balancers, clouds and tunnels add: words for whom they pass on, and prefixes of their own.
_FORWARDING = re.compile(
    r"(?:.*-)?via\Z"
    r"|.*(?:forwarded|client-?(?:ip|addr)|real-?ip|connecting-?ip|remote-?(?:ip|addr|host)|originating-?ip|cdn-loop)"
    r"|(?:x-)?(?:akamai|amz|amzn|appengine|arr|azure|cf|cloud-trace|cloudfront|edge|envoy|fastly|fly|google|goog|heroku"
    r"|incap|nf|ngrok|original|proxyuser|railway|render|sucuri|tailscale|tunnel|vercel)-"
)
_LOOPBACK_HOST = re.compile(r"(?:localhost|127\.0\.0\.1|\[::1\])(?::(\d{1,5}))?\Z", re.IGNORECASE | re.ASCII)
_DEFAULT_PORTS = {"http": 80, "https": 443}


class Token(Protocol):
    """A text that may change while we run (`${file:…}`)."""

    def value(self) -> str:
        """Return the text as it is now."""
        ...


class AccessRules(Protocol):
    """The `[access]` table."""

    @property
    def read_tokens(self) -> Sequence[Token]:
        """The tokens of those who may read."""
        ...

    @property
    def admin_tokens(self) -> Sequence[Token]:
        """The tokens of those who may read and act."""
        ...

    @property
    def action_token(self) -> Token | None:
        """Return who may read and act in this run, where no admin token is configured."""
        ...

    @property
    def open(self) -> bool:
        """Without tokens everybody may read, on any address."""
        ...

    @property
    def open_metrics(self) -> bool:
        """/metrics takes no token."""
        ...


@dataclass(frozen=True, slots=True)
class Refusal:
    """The reason that a request is not answered: 401 asks for a token, 403 says that this one will not do."""

    status: int
    detail: str


def refusal(
    rules: AccessRules, *, loopback: bool, method: str, path: str, headers: Headers, http_version: str = "1.1"
) -> Refusal | None:
    """Return why the request is refused; None where it may pass. `loopback`: the server listens there and nowhere else.

    Probes and paths behind which there is nothing pass always. Pages hold no data: they need no token.
    """
    data = path.startswith("/api/") or path in _DATA
    if path == "/metrics" and rules.open_metrics:
        return None
    if not data and not path.startswith("/assets/") and path not in _PAGES:
        return None
    needs_token = bool(rules.read_tokens or rules.admin_tokens)
    if not needs_token and not rules.open:
        strange = _stranger(headers, http_version) if loopback else Refusal(403, "No tokens are configured.")
        if strange is not None:
            return strange
    acting = method not in {"GET", "HEAD"}
    return _token_refusal(rules, headers, acting=acting) if data and (acting or needs_token) else None


def ingest_forbids(rules: AccessRules, *, loopback: bool) -> Callable[[Mapping[str, str]], bool]:
    """Return whether /ingest refuses a request by its headers (lower-case names): a foreign web page's, on loopback.

    Several lines of one header are joined by commas: one foreign Origin among them is enough.

    Tokens change nothing about it: they are for those who read, and a browser of this machine reaches /ingest anyway.
    """
    if rules.open or not loopback:
        return lambda headers: False
    return lambda headers: (
        "origin" in headers
        and any(_foreign(origin.strip(), headers.get("host", "")) for origin in headers["origin"].split(","))
    )


def _token_refusal(rules: AccessRules, headers: Headers, *, acting: bool) -> Refusal | None:
    made = () if rules.action_token is None else (rules.action_token,)
    given = _bearer(headers)
    if given is None:
        where = " Without tokens under [access] actions take the one in headrace.token." if acting and made else ""
        return Refusal(401, f"Give a token: Authorization: Bearer <token>.{where}")
    admin, reader = _matches(given, (*rules.admin_tokens, *made)), _matches(given, rules.read_tokens)
    if not (admin or reader):
        return Refusal(401, "This token is not known.")
    return Refusal(403, "This takes an admin token.") if acting and not admin else None


def _bearer(headers: Headers) -> bytes | None:
    """Return the one token of a request. It is never empty: an emptied token file must shut the door, not open it."""
    values = [value for name, value in headers if name == b"authorization"]
    if len(values) != 1:
        return None
    scheme, _, token = values[0].partition(b" ")
    return token.strip() or None if scheme.lower() == b"bearer" else None


def _matches(given: bytes, tokens: Sequence[Token]) -> bool:
    """Compare with every token, in a time that tells nothing."""
    return any([hmac.compare_digest(given, token.value().encode()) for token in tokens])  # noqa: C419 - all, always


def _stranger(headers: Headers, http_version: str) -> Refusal | None:
    """Refuse a request that no program of this machine sent by itself: a proxy's, a rebound name's, a web page's.

    nginx passes on by HTTP/1.0, with our own address as Host and no header of its own, unless it is told otherwise.
    """
    text = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]
    forwarded = [name for name, _ in text if _FORWARDING.match(name)]
    hosts = [value for name, value in text if name == "host"]
    if http_version == "1.0":
        return _closed("HTTP/1.0 is what proxies speak")
    if forwarded:
        return _closed(f"a proxy passed it on ({forwarded[0]})")
    if len(hosts) != 1 or _LOOPBACK_HOST.match(hosts[0]) is None:
        return _closed("Host is not localhost, 127.0.0.1 or [::1]")
    if any(_foreign(value, hosts[0]) for name, value in text if name == "origin"):
        return _closed("it comes from a web page of another origin")
    return None


def _closed(why: str) -> Refusal:
    return Refusal(403, f"Without tokens under [access] only this machine is served: {why}.")


def _foreign(origin: str, host: str) -> bool:
    """Return whether a page of `origin` is not ours: another machine's, or another port's of this one."""
    try:
        parts = urlsplit(origin)
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return True
    if parts.scheme not in _DEFAULT_PORTS or _LOOPBACK_HOST.match(parts.netloc) is None:
        return True
    own = _LOOPBACK_HOST.match(host)
    return own is None or port != int(own[1] or _DEFAULT_PORTS[parts.scheme])
