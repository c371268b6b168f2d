"""The bytes of the test upstream: frames of a stream and HTTP answers, pure."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping

from tests.support.upstream.rules import Answer, Nonsense, Rules

BOM = b"\xef\xbb\xbf"
_HTML = b"<html><head><title>Down for maintenance</title></head><body>Back soon.</body></html>"
_REASONS = {
    "401": "Unauthorized",
    "403": "Forbidden",
    "404": "Not Found",
    "429": "Too Many Requests",
    "500": "Internal Server Error",
    "529": "Site is overloaded",
}


def frame(name: str | None, data: str, rules: Rules, number: int | None = None) -> bytes:
    """One event; None leaves the `event:` line out. Only line feeds split `data` into lines, other breaks stay in."""
    lines = [] if name is None else [f"event: {name}"]
    lines += [f"data: {line}" for line in data.split("\n")]
    if rules.ids and number is not None:
        lines.append(f"id: {number}")
    return "".join(line + rules.newline for line in [*lines, ""]).encode()


def greeting(rules: Rules) -> bytes:
    """What a stream begins with."""
    retry = b"" if rules.retry_ms is None else b"retry: %d\n\n" % rules.retry_ms
    return (BOM if rules.bom else b"") + (b":ok\n\n\n" + retry).replace(b"\n", rules.newline.encode())


def keep_alive(rules: Rules) -> bytes:
    """A sign of life that is no event."""
    newline = rules.newline.encode()
    return newline if rules.keep_alive == "newline" else b":ok" + newline


def stream_head(rules: Rules) -> bytes:
    """The head of a stream's answer."""
    headers = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache"}
    if rules.gzip:
        headers["Content-Encoding"] = "gzip"
    headers |= {"Transfer-Encoding": "chunked"} if rules.chunked else {"Connection": "close"}
    return _head("200 OK", headers)


def answer(kind: Answer, rules: Rules, retry_after: str | None = None) -> bytes:
    """A whole answer that is no stream."""
    if kind == "redirect":
        return _whole("302 Found", b"", {"Location": rules.location})
    if kind == "html":
        return _whole("200 OK", _HTML, {"Content-Type": "text/html; charset=utf-8"})
    headers = {"Content-Type": "application/json"}
    if retry_after is not None:
        headers["Retry-After"] = retry_after
    reason = _REASONS[kind]
    body = b'{"error":"%b","error_description":"%b"}' % (kind.encode(), reason.encode())
    return _whole(f"{kind} {reason}", body, headers)


def nonsense(kind: Nonsense) -> bytes:
    """An answer that no client can make anything of."""
    if kind == "scraps":
        return b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n: \x00\r\n\r\n"
    status, headers = {
        "not_modified": ("304 Not Modified", {}),
        "nowhere": ("301 Moved Permanently", {}),
        "no_url": ("302 Found", {"Location": "http://[::1/\x85"}),
        "ages": ("503 Service Unavailable", {"Retry-After": "Tue, 28 Jul 99999999999999999999 16:53:05 GMT"}),
    }[kind]
    return _whole(status, b"", headers)


class Coding:
    """What becomes of a stream's bytes on their way out: compressed, chunked, split."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._gzip = zlib.compressobj(wbits=31) if rules.gzip else None

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """The writes that carry `data`."""
        if self._gzip is not None:
            data = self._gzip.compress(data) + self._gzip.flush(zlib.Z_SYNC_FLUSH)
        for part in (bytes([byte]) for byte in data) if self._rules.split else (data,):
            yield b"%x\r\n%b\r\n" % (len(part), part) if self._rules.chunked else part

    def end(self) -> bytes:
        """What ends the body in good order."""
        rest = self._gzip.flush() if self._gzip is not None else b""
        if not self._rules.chunked:
            return rest
        return (b"%x\r\n%b\r\n" % (len(rest), rest) if rest else b"") + b"0\r\n\r\n"


def header(head: str, name: str) -> str | None:
    """A header's value in a request's head."""
    for line in head.split("\r\n")[1:]:
        key, _, value = line.partition(":")
        if key.lower() == name.lower():
            return value.strip()
    return None


def _whole(status: str, body: bytes, headers: Mapping[str, str]) -> bytes:
    return _head(status, {**headers, "Content-Length": str(len(body)), "Connection": "close"}) + body


def _head(status: str, headers: Mapping[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers.items())]
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode()
