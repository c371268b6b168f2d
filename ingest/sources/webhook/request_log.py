"""The last requests of one webhook: what its operator looks at when events do not come. Nothing secret is shown."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from ingest.event import Outcome
from ingest.sources.webhook.credentials import Basic, Bearer, Credentials, Header, Query, authorization, header_value
from ingest.sources.webhook.kept_headers import names_of
from ingest.sources.webhook.signatures import Hmac, StandardWebhooks, Stripe
from ingest.times import Time, rfc3339

KEPT = 10
_MASK = "***"
_MOST_NAMES = 100
_MOST_CHARACTERS = 200
# The only headers and parts of a query whose text is shown. A secret under a wrong name would be among the others.
_HARMLESS = frozenset(
    {"accept", "accept-encoding", "connection", "content-encoding", "content-length", "content-type"}
) | {
    *("date", "expect", "host", "transfer-encoding", "user-agent"),
}
_NAME = re.compile(r"[A-Za-z0-9_.\-]{1,64}")
_REASONS = {
    403: "it is another web page's, and this server listens on loopback",
    405: "its method is neither POST nor PUT",
    413: "its body, inflated, or its number of elements is over the limit",
    415: "its Content-Encoding is not gzip",
    422: "some of it could not be decoded; it was kept as a reject",
    503: "it could not be stored then",
}


class RequestRow(Struct, frozen=True, kw_only=True):
    """One request. `reason`: why it was refused, or what of it could not be decoded; null where all is well."""

    received_at: Time
    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    status: int
    reason: str | None


class RecentRequests(Struct, frozen=True, kw_only=True):
    """The last requests of this process, the newest first."""

    accepted: Sequence[RequestRow]
    refused: Sequence[RequestRow]


class RequestLog:
    """Keeps the scopes of the last requests; what is to be said of them is made when somebody asks."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._accepted: deque[tuple[float, MutableMapping[str, Any], int]] = deque(maxlen=KEPT)
        self._refused: deque[tuple[float, MutableMapping[str, Any], int]] = deque(maxlen=KEPT)

    def note(self, scope: MutableMapping[str, Any], status: int) -> None:
        """Remember a request that was answered; `scope["outcomes"]` is what became of its elements."""
        (self._accepted if status < 300 else self._refused).append((time.time(), scope, status))

    def recent(self) -> RecentRequests:
        """Return what is remembered."""
        return RecentRequests(
            accepted=[self._row(*entry) for entry in reversed(self._accepted)],
            refused=[self._row(*entry) for entry in reversed(self._refused)],
        )

    def _row(self, at: float, scope: Mapping[str, Any], status: int) -> RequestRow:
        lines = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"][:_MOST_NAMES]]
        query = scope["query_string"].decode("latin-1")
        return RequestRow(
            received_at=rfc3339(datetime.fromtimestamp(at, UTC)),
            method=self._shown(scope["method"]),
            path=self._shown(scope["path"]),
            query="&".join(self._shown_pairs(query)),
            headers={self._shown_name(name): self._shown_value(name, value) for name, value in lines},
            status=status,
            reason=self._reason(status, dict(lines), query, scope.get("outcomes", ())),
        )

    def _reason(self, status: int, headers: Mapping[str, str], query: str, outcomes: Sequence[Outcome]) -> str | None:
        if status == 401:
            return why_unauthorized(self._credentials, headers, query)
        rejected = outcomes.count(Outcome.REJECTED)
        if status < 300 and rejected:
            return f"{rejected} of {len(outcomes)} could not be decoded; see the rejects"
        return _REASONS.get(status)

    def _shown_pairs(self, query: str) -> Iterator[str]:
        for pair in query.split("&")[:_MOST_NAMES] if query else ():
            name, equals, _ = pair.partition("=")
            yield f"{self._shown_name(name)}={_MASK}" if equals else _MASK

    def _shown_name(self, name: str) -> str:
        return self._shown(name) if _NAME.fullmatch(name) else _MASK

    def _shown_value(self, name: str, value: str) -> str:
        harmless = name in _HARMLESS and name not in names_of(self._credentials)
        return self._shown(value[:_MOST_CHARACTERS]) if harmless else _MASK

    def _shown(self, text: str) -> str:
        """Return a text without the source's secrets, and nothing that a terminal would obey."""
        configured: Sequence[str] = getattr(self._credentials, "secrets", tuple)()
        for secret in [part for text_ in configured for part in (text_, text_.partition(":")[2]) if part]:
            text = text.replace(secret, _MASK)
        return "".join(character if character.isprintable() else "?" for character in text)


def why_unauthorized(credentials: Credentials, headers: Mapping[str, str], query: str) -> str:
    """Return why a request was not let in, without a word of what it sent."""
    match credentials:
        case Header(name=name):
            return _why_header(headers, name, "is none of the secrets")
        case Query(name=name):
            there = name in {pair.partition("=")[0] for pair in query.split("&")}
            return f"the query parameter {name} {'is none of the secrets' if there else 'is missing'}"
        case Bearer():
            return _why_scheme(headers, "bearer")
        case Basic():
            return _why_scheme(headers, "basic")
        case Hmac(header=name, prefix=prefix):
            begins = header_value(headers, name).strip().startswith(prefix.strip())
            return _why_header(headers, name, "is no signature by a secret" if begins else f"lacks {prefix}")
        case Stripe():
            return _why_header(headers, "stripe-signature", "is no signature, or older than five minutes")
        case StandardWebhooks():
            brand = "webhook" if "webhook-signature" in headers else "svix"
            missing = [part for part in ("id", "timestamp", "signature") if f"{brand}-{part}" not in headers]
            if missing:
                return "missing: " + ", ".join(f"the header webhook-{part}" for part in missing)
            return "the header webhook-signature is no signature, or older than five minutes"
        case _:
            return _why_scheme(headers, "bearer")


def _why_header(headers: Mapping[str, str], name: str, wrong: str) -> str:
    return f"the header {name} {wrong if name.lower() in headers else 'is missing'}"


def _why_scheme(headers: Mapping[str, str], scheme: str) -> str:
    if "authorization" not in headers:
        return "the header Authorization is missing"
    if not authorization(headers, scheme):
        return f"the header Authorization does not begin with {scheme.capitalize()}"
    return f"the credentials behind {scheme.capitalize()} are not those of this source"
