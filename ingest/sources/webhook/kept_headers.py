"""Which of a request's headers are kept with a reject: what may help to read it again, and nothing that lets one in."""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from urllib.parse import unquote, unquote_plus

from ingest.sources.webhook.credentials import Credentials, Header, Query
from ingest.sources.webhook.signatures import Hmac

MOST_CHARACTERS = 4096
"""Of names and values together: ten thousand elements of one body may be rejects."""

_NEVER = frozenset({"authorization", "proxy-authorization", "cookie"}) | {
    f"{brand}-signature" for brand in ("stripe", "webhook", "svix")
}
_SECRET = re.compile(
    "auth|cookie|token|secret|signature|passw|credential|session|jwt|assertion|api-?key|(?<!idempotency)[-_]key$"
)


def kept_headers(headers: Mapping[str, str], credentials: Credentials, needed: Set[str]) -> dict[str, str]:
    """Return the headers less those that hold, or by their names may hold, credentials; of 4,096 characters at most.

    `needed` are the names that the source's format reads. They go first, whatever they are called, unless it is by them
    that the source lets senders in. A URL with a secret in its query is left out too.
    """
    never = _NEVER | names_of(credentials)
    secrets = [secret for secret in credentials.secrets() if secret] if isinstance(credentials, Query) else []
    kept: dict[str, str] = {}
    room = MOST_CHARACTERS
    for name in sorted(headers, key=lambda name: name not in needed):
        value = headers[name]
        if name in never or (name not in needed and _SECRET.search(name)) or _shows(value, secrets):
            continue
        if (size := len(name) + len(value)) <= room:
            room -= size
            kept[name] = value
    return kept


def names_of(credentials: Credentials) -> set[str]:
    """Return the header that the configuration says credentials are in."""
    match credentials:
        case Header(name=name) | Hmac(header=name):
            return {name.lower()}
        case _:
            return set()


def _shows(value: str, secrets: list[str]) -> bool:
    return any(secret in text for secret in secrets for text in (value, unquote(value), unquote_plus(value)))
