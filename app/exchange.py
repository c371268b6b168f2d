"""The short way from the socket to a webhook: small whole requests are answered without a task for each.

uvicorn's way costs a task, an event and three coroutines a request, which is more than everything that Headrace then
does with it. Whatever is not plain (a large or chunked body, Expect, pipelining, HTTP/1.0) takes uvicorn's way.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.heads import Endpoint, Head, KnownHeads
from ingest.sources.answers import ANSWERS, Answer

_LARGEST_BODY = 64 * 1024  # uvicorn stops reading ahead there, and our short way never stops reading
_LENGTH_DIGITS = 6
_LARGEST_HEAD = 64 * 1024
_MOST_PIPELINED = 100  # uvicorn reads on with every answer, so a flood of small requests would pile up
_NOT_PLAIN = frozenset({b"expect", b"transfer-encoding", b"upgrade"})


class _Nobody:
    """Stands for the task that uvicorn would wake up."""

    def set(self) -> None:
        """Wake nobody up."""


def _head(answer: Answer) -> bytes:
    status = HTTPStatus(answer.code)
    headers = b"".join(b"%b: %b\r\n" % header for header in answer.start["headers"])
    return b"HTTP/1.1 %d %b\r\n%b" % (status, status.phrase.encode(), headers)


_HEADS = {code: _head(answer) for code, answer in ANSWERS.items()}


class _CommonLines:
    """The header lines that every answer has. uvicorn makes a new list of them when the second changes."""

    def __init__(self) -> None:
        self._headers: object = None
        self._lines = b""

    def of(self, headers: list[tuple[bytes, bytes]]) -> bytes:
        """The lines of uvicorn's list."""
        if headers is not self._headers:
            self._headers = headers
            self._lines = b"".join(b"%b: %b\r\n" % header for header in headers)
        return self._lines


_common_lines = _CommonLines()


class Exchange:
    """One request and its answer, in the shape in which uvicorn's protocol keeps them (RequestResponseCycle)."""

    message_event = _Nobody()

    __slots__ = ("body", "disconnected", "keep_alive", "more_body", "protocol", "response_complete")

    def __init__(self, protocol: PlainProtocol) -> None:
        self.protocol = protocol
        self.body = b""
        self.more_body = True
        self.keep_alive = True
        self.disconnected = False
        self.response_complete = False

    def reply(self, answer: Answer) -> None:
        """Write the answer, unless the sender hung up; then the connection is ready for the next request."""
        self.response_complete = True
        transport = self.protocol.transport
        if self.disconnected or transport.is_closing():
            return
        stays = self.keep_alive and answer.code != 413
        last = b"\r\n" if stays or answer.code == 413 else b"connection: close\r\n\r\n"
        common = _common_lines.of(self.protocol.server_state.default_headers)
        transport.write(_HEADS[answer.code] + common + last + answer.body.get("body", b""))
        if not stays:
            transport.close()
        self.protocol.on_exchange_complete()


class PlainProtocol(HttpToolsProtocol):
    """uvicorn's protocol with the short way beside it, for the `endpoints` of the application that it serves."""

    def __init__(self, config: Config, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        front: Any = config.app
        self._endpoints: Mapping[bytes, Endpoint] = front.plain_endpoints
        self._known_heads: KnownHeads = front.known_heads
        self._endpoint: Endpoint | None = None
        self._query = b""
        self._between_requests = True
        self._began_with = b""  # what came with the first byte of the request that is being parsed
        self.unfinished_bytes = 0  # of a head, a trailer or a chunk's extension: what only the parser keeps

    def data_received(self, data: bytes) -> None:
        """Parse, unless it is a whole request whose head is known.

        A head that never ends is refused, because neither the parser nor uvicorn has a bound for it.
        """
        if self._between_requests and not self._is_answering() and not self.flow.write_paused:
            request = self._known_heads.split(data)
            if request is not None:
                self._unset_keepalive_if_required()
                self.unfinished_bytes = 0
                self._answer(Exchange(self), *request)
                return
        self._began_with = data if self._between_requests else b""
        self.unfinished_bytes += len(data)
        super().data_received(data)
        if self.unfinished_bytes > _LARGEST_HEAD and not self.transport.is_closing():
            self.send_400_response("Request header fields too large.")

    def on_body(self, body: bytes) -> None:
        """A piece of a body."""
        self.unfinished_bytes = 0
        exchange: Any = self.cycle
        if type(exchange) is Exchange:
            exchange.body += body  # mostly it is the whole, and then not copied
        else:
            super().on_body(body)

    def on_message_begin(self) -> None:
        """A request; its scope is made where the short way is not taken."""
        self._between_requests = False
        self.url = b""
        self.headers = []
        self.expect_100_continue = False

    def on_headers_complete(self) -> None:
        """Take the short way where the request is plain."""
        self.unfinished_bytes = 0
        if len(self.pipeline) >= _MOST_PIPELINED:
            self.transport.abort()
            return
        path, _, self._query = self.url.partition(b"?")
        self._endpoint = self._endpoints.get(path)
        if self._endpoint is None or self._is_answering() or not self._is_plain():
            url, headers, expects = self.url, self.headers, self.expect_100_continue
            super().on_message_begin()
            self.url, self.headers, self.expect_100_continue = url, headers, expects
            self.scope["headers"] = headers
            super().on_headers_complete()
        else:
            self.cycle = Exchange(self)  # type: ignore[assignment]

    def on_message_complete(self) -> None:
        """Answer a request that came the short way."""
        self.unfinished_bytes = 0
        self._between_requests = True
        began_with, self._began_with = self._began_with, b""
        exchange: Any = self.cycle
        if type(exchange) is not Exchange or self._endpoint is None:
            super().on_message_complete()
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in self.headers}
        method = self.parser.get_method().decode("ascii")
        head = Head(self._endpoint, method, headers, self._query, len(exchange.body))
        self._known_heads.remember(began_with, head, exchange.body)
        self._answer(exchange, head, exchange.body)

    def on_exchange_complete(self) -> None:
        """An answer was written. No timer is set: whoever looks after the connection closes it when it is idle."""
        if self.pipeline:
            self.on_response_complete()
        else:
            self.server_state.total_requests += 1

    def _answer(self, exchange: Exchange, head: Head, body: bytes) -> None:
        exchange.more_body = False
        self.cycle = exchange  # type: ignore[assignment]
        head.answer(body, exchange.reply)

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _is_plain(self) -> bool:
        headers = dict(self.headers)
        length = headers.get(b"content-length", b"0")
        return (
            not self.flow.write_paused  # a sender that does not read its answers has to wait
            and self.parser.get_method() in {b"POST", b"PUT"}  # HEAD has an answer without a body
            and _NOT_PLAIN.isdisjoint(headers)
            and headers.get(b"connection", b"keep-alive").lower() == b"keep-alive"
            and length.isdigit()
            and len(length) <= _LENGTH_DIGITS
            and int(length) <= _LARGEST_BODY
            and self.parser.get_http_version() == "1.1"
        )
