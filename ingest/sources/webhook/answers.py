"""The answers that a webhook's sender can have: a status, and where it is a fault a problem description (RFC 9457).

The 204 is empty on purpose: Particle publishes a non-empty body again as hook-response events. A receipt has a body for
that very reason: the event reaches the device.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from uuid import UUID

RETRY_AFTER_SECONDS = 5

# Status, title, what the sender can do about it.
_FAULTS = (
    (401, "Unauthorized", "The credentials are missing or wrong; nothing was stored."),
    (403, "Forbidden", "Requests of other web pages are refused where this server listens on loopback."),
    (405, "Method Not Allowed", "Use POST or PUT."),
    (413, "Content Too Large", "The body, its inflated form or its number of elements is over the limit."),
    (415, "Unsupported Media Type", "Content-Encoding must be gzip or absent."),
    (422, "Unprocessable Content", "Some of it could not be decoded; it was kept as a reject, the rest was stored."),
    (503, "Service Unavailable", "It cannot be stored now; send it again."),
)
_EXTRA_HEADERS: dict[int, list[tuple[bytes, bytes]]] = {
    405: [(b"allow", b"POST, PUT")],
    413: [(b"connection", b"close")],
    503: [(b"retry-after", b"%d" % RETRY_AFTER_SECONDS)],
}


@dataclass(frozen=True, slots=True)
class Answer:
    """One response, as the two ASGI messages that send it."""

    code: int
    start: dict[str, Any]
    body: dict[str, Any]


def _fault(code: int, title: str, detail: str) -> Answer:
    body = json.dumps({"type": "about:blank", "title": title, "status": code, "detail": detail}).encode()
    headers = [(b"content-type", b"application/problem+json"), (b"content-length", b"%d" % len(body))]
    start = {"type": "http.response.start", "status": code, "headers": [*headers, *_EXTRA_HEADERS.get(code, [])]}
    return Answer(code, start, {"type": "http.response.body", "body": body})


_STORED = Answer(204, {"type": "http.response.start", "status": 204, "headers": []}, {"type": "http.response.body"})
ANSWERS = {204: _STORED, **{code: _fault(code, title, detail) for code, title, detail in _FAULTS}}

_RECEIPT_START: dict[str, Any] = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/json"), (b"content-length", b"45")],
}


def unauthorized(challenge: str) -> Answer:
    """Return a 401 that asks for an authentication scheme; its parameter is the one that RFC 7617 §2 demands."""
    refused = ANSWERS[401]
    asked = (b"www-authenticate", f'{challenge} realm="headrace"'.encode())
    return Answer(401, {**refused.start, "headers": [*refused.start["headers"], asked]}, refused.body)


def receipt(event: UUID) -> Answer:
    """Return a 200 whose body is an event's id: `{"id":"…"}`, 45 bytes."""
    return Answer(200, _RECEIPT_START, {"type": "http.response.body", "body": b'{"id":"%b"}' % str(event).encode()})
