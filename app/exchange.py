"""The short way from the socket to a webhook: small whole requests are answered without a task for each.

uvicorn's way costs a task, an event and three coroutines a request, which is more than everything that Headrace then
does with it. Whatever is not plain (a large or chunked body, Expect, pipelining, HTTP/1.0) takes uvicorn's way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Protocol

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ingest.sources.answers import ANSWERS, Answer

_LARGEST_BODY = 64 * 1024  # uvicorn stops reading ahead there, and our short way never stops reading
_LENGTH_DIGITS = 6
_LARGEST_HEAD = 64 * 1024
_MOST_PIPELINED = 100  # uvicorn reads on with every answer, so a flood of small requests would pile up
_NOT_PLAIN = frozenset({b"expect", b"transfer-encoding", b"upgrade"})


class Endpoint(Protocol):
    """What answers a whole request; `ingest.sources.webhook.WebhookSource` does."""

    def answer(
        self, method: str, headers: Mapping[str, str], query: bytes, body: bytes, reply: Callable[[Answer], None]
    ) -> None:
        """Call `reply` once, now or later."""
        ...


class _Nobody:
    """Stands for the task that uvicorn would wake up."""

    def set(self) -> None:
        """Wake nobody up."""


def _head(answer: Answer) -> bytes:
    status = HTTPStatus(answer.code)
    headers = b"".join(b"%b: %b\r\n" % header for header in answer.start["headers"])
    return b"HTTP/1.1 %d %b\r\n%b" % (status, status.phrase.encode(), headers)


_HEADS = {code: _head(answer) for code, answer in ANSWERS.items()}


class Exchange:
    """One request and its answer, in the shape in which uvicorn's protocol keeps them (RequestResponseCycle)."""

    message_event = _Nobody()

    __slots__ = ("body", "disconnected", "keep_alive", "more_body", "protocol", "response_complete")

    def __init__(self, protocol: PlainProtocol) -> None:
        self.protocol = protocol
        self.body = bytearray()
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
        lines = [b"%b: %b\r\n" % header for header in self.protocol.server_state.default_headers]
        if not stays and answer.code != 413:
            lines.append(b"connection: close\r\n")
        transport.write(b"".join((_HEADS[answer.code], *lines, b"\r\n", answer.body.get("body", b""))))
        if not stays:
            transport.close()
        self.protocol.on_response_complete()


class PlainProtocol(HttpToolsProtocol):
    """uvicorn's protocol with the short way beside it, for the `endpoints` of the application that it serves."""

    def __init__(self, config: Config, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        front: Any = config.app
        self._endpoints: Mapping[bytes, Endpoint] = front.plain_endpoints
        self._endpoint: Endpoint | None = None
        self._query = b""
        self._unfinished_bytes = 0  # of a head, a trailer or a chunk's extension: what only the parser keeps

    def data_received(self, data: bytes) -> None:
        """Parse; a head that never ends is refused, because neither the parser nor uvicorn has a bound for it."""
        self._unfinished_bytes += len(data)
        super().data_received(data)
        if self._unfinished_bytes > _LARGEST_HEAD and not self.transport.is_closing():
            self.send_400_response("Request header fields too large.")

    def on_body(self, body: bytes) -> None:
        """A piece of a body."""
        self._unfinished_bytes = 0
        super().on_body(body)

    def on_headers_complete(self) -> None:
        """Take the short way where the request is plain."""
        self._unfinished_bytes = 0
        if len(self.pipeline) >= _MOST_PIPELINED:
            self.transport.abort()
            return
        path, _, self._query = self.url.partition(b"?")
        self._endpoint = self._endpoints.get(path)
        answering = self.cycle is not None and not self.cycle.response_complete
        if self._endpoint is None or answering or not self._is_plain():
            super().on_headers_complete()
        else:
            self.cycle = Exchange(self)  # type: ignore[assignment]

    def on_message_complete(self) -> None:
        """Answer a request that came the short way."""
        self._unfinished_bytes = 0
        exchange: Any = self.cycle
        if type(exchange) is not Exchange or self._endpoint is None:
            super().on_message_complete()
            return
        exchange.more_body = False
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in self.headers}
        method = self.parser.get_method().decode("ascii")
        self._endpoint.answer(method, headers, self._query, bytes(exchange.body), exchange.reply)

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
