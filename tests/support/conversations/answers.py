"""A strict reader of HTTP/1.1 responses: what RFC 9112 does not allow in one is a fault, not something to guess at."""

from __future__ import annotations

import re
from collections.abc import Callable

from tests.support.conversations.values import Answer

_STATUS = re.compile(rb"HTTP/1\.1 ([1-5]\d\d) [^\x00-\x08\x0a-\x1f]*\Z")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*?)[ \t]*\Z")
_CHUNK = re.compile(rb"([0-9a-fA-F]+)\r\n")


class NotHttp(Exception):
    """Bytes that are no response, or not the one that is due."""


class AnswerReader:
    """Makes answers of bytes. `method_of` gives the method of the request that the n-th answer belongs to."""

    def __init__(self, method_of: Callable[[int], bytes]) -> None:
        self.answers: list[Answer] = []
        self.continued: set[int] = set()  # before which answers 100 Continue came
        self._method_of = method_of
        self._received = b""

    def feed(self, data: bytes) -> None:
        """Take more bytes. Raises NotHttp."""
        self._received += data
        while self._received and self._take():
            pass

    def end(self) -> None:
        """Take the end of the connection. Raises NotHttp if it ends in the middle of an answer."""
        if self._received:
            raise NotHttp(f"the connection ends in the middle of an answer: {self._received[:200]!r}")

    def _take(self) -> bool:
        """Take one response off the front, if it is there as a whole."""
        if self.answers and self.answers[-1].closes:
            raise NotHttp(f"bytes behind an answer that closes: {self._received[:200]!r}")
        head, end, rest = self._received.partition(b"\r\n\r\n")
        if not end:
            if not b"HTTP/1.1 ".startswith(head[:9]):
                raise NotHttp(f"no status line: {head[:200]!r}")
            return False
        status, headers = _parsed(head)
        if status == 100:
            self.continued.add(len(self.answers))
            self._received = rest
            return True
        answer = Answer(status, headers, b"")
        framed = _body(answer, rest, head_only=self._method_of(len(self.answers)) == b"HEAD")
        if framed is None:
            return False
        body, self._received = framed
        self.answers.append(Answer(status, headers, body))
        return True


def _parsed(head: bytes) -> tuple[int, tuple[tuple[str, str], ...]]:
    first, *lines = head.split(b"\r\n")
    status = _STATUS.match(first)
    headers = [_HEADER.match(line) for line in lines]
    if status is None or (100 < int(status[1]) < 200):
        raise NotHttp(f"no status line: {first!r}")
    if None in headers:
        raise NotHttp(f"no header: {head!r}")
    return int(status[1]), tuple((found[1].decode().lower(), found[2].decode("latin-1")) for found in headers if found)


def _body(answer: Answer, rest: bytes, *, head_only: bool) -> tuple[bytes, bytes] | None:
    """The body and what follows it; None where it is not there yet. RFC 9112 §6.3."""
    lengths, codings = answer.all("content-length"), answer.all("transfer-encoding")
    if answer.status == 204 and (lengths or codings):
        raise NotHttp(f"a 204 with a length (RFC 9110 §8.6): {answer}")
    if len(lengths) > 1 or (lengths and codings) or not all(length.isdigit() for length in lengths):
        raise NotHttp(f"no clear length: {answer}")
    if head_only or answer.status in {204, 304}:
        return b"", rest
    if codings:
        if codings != ["chunked"]:
            raise NotHttp(f"an unknown coding: {answer}")
        return _unchunked(rest)
    if not lengths:
        raise NotHttp(f"no length: {answer}")
    length = int(lengths[0])
    return (rest[:length], rest[length:]) if len(rest) >= length else None


def _unchunked(rest: bytes) -> tuple[bytes, bytes] | None:
    body = b""
    while True:
        size = _CHUNK.match(rest)
        if size is None:
            if len(rest) > 18:
                raise NotHttp(f"no chunk: {rest[:200]!r}")
            return None
        length, rest = int(size[1], 16), rest[size.end() :]
        if len(rest) < length + 2:
            return None
        if rest[length : length + 2] != b"\r\n":
            raise NotHttp(f"a chunk without an end: {rest[:200]!r}")
        body, rest = body + rest[:length], rest[length + 2 :]
        if not length:
            return body, rest
