"""The messages of HTTP that we write ourselves: answers to what is no request of ours, and a head without its offer."""

from __future__ import annotations

import json
from collections.abc import Iterable
from http import HTTPStatus
from typing import NamedTuple

_OFFER = frozenset({b"upgrade", b"http2-settings"})


class HttpFault(NamedTuple):
    """An answer of the server itself to what is no request of ours."""

    status: HTTPStatus
    detail: str


NO_REQUEST = HttpFault(HTTPStatus.BAD_REQUEST, "This is no valid HTTP request.")
NO_HOST = HttpFault(HTTPStatus.BAD_REQUEST, "A request has exactly one Host.")  # RFC 9112 §3.2
NO_TUNNEL = HttpFault(HTTPStatus.METHOD_NOT_ALLOWED, "This server is no proxy.")
LARGE_HEAD = HttpFault(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "The head of a request is too large.")


def answer_to(fault: HttpFault, headers: Iterable[tuple[bytes, bytes]], *, has_body: bool) -> bytes:
    """Return a whole answer, a problem (RFC 9457), that closes the connection."""
    status, detail = fault
    body = json.dumps({"type": "about:blank", "title": status.phrase, "status": status, "detail": detail}).encode()
    lines = [*headers, (b"content-type", b"application/problem+json"), (b"content-length", b"%d" % len(body))]
    head = b"".join(b"%b: %b\r\n" % line for line in [*lines, (b"connection", b"close")])
    return b"HTTP/1.1 %d %b\r\n%b\r\n%b" % (status, status.phrase.encode(), head, body if has_body else b"")


def head_without_offer(method: bytes, url: bytes, version: str, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the head of a request without its offer to upgrade; names in lower case."""
    kept = [(name, _without_upgrade(name, value)) for name, value in headers if name not in _OFFER]
    lines = b"".join(b"%b: %b\r\n" % header for header in kept)
    return b"%b %b HTTP/%b\r\n%b\r\n" % (method, url, version.encode(), lines)


def _without_upgrade(name: bytes, value: bytes) -> bytes:
    """Return a header's value; of `Connection` without its option `upgrade`."""
    if name != b"connection":
        return value
    return b", ".join(option for option in value.split(b",") if option.strip().lower() != b"upgrade")
