"""uvicorn's HTTP protocol, guarded where it errs: a sender gets its answer, and hurts neither us nor other senders.

The one file that reaches into uvicorn, by what it does not document; tests/unit/test_seams.py says which of it moved.

An offer to upgrade is ignored and the body read; trailers are dropped; a connection is closed after an answer, or able
to take the next request; what is slow, endless or no request ends in bounded time and room. HTTP itself is uvicorn's.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import httptools
import uvicorn
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.certificate import Certificate
from app.descriptors import make_room
from app.http_messages import LARGE_HEAD, NO_HOST, NO_REQUEST, NO_TUNNEL, HttpFault, answer_to, head_without_offer
from app.sender_bounds import Bounds, UntakenAnswer
from app.unconnectable import make_unconnectable

_PIECE_BYTES = 16 * 1024  # of what is fed to the parser at once, so that one read cannot hold thousands of requests
_LOOK_SECONDS = 0.01
_ACCEPTED_SECONDS = 0.1
_MOST_PIPELINED = 100  # requests that wait for the answers before theirs; then reading waits too


class _Refused(Exception):
    """Ends the parsing of a connection."""

    def __init__(self, fault: HttpFault) -> None:
        super().__init__(fault.detail)
        self.fault = fault


class _Flow(FlowControl):
    """uvicorn's flow control, which does not read on while it is `held`."""

    held = False

    def resume_reading(self) -> None:
        """See FlowControl."""
        if not self.held:
            super().resume_reading()


class GuardedProtocol(HttpToolsProtocol):
    """One connection. Make it with functools.partial where `bounds` are others."""

    def __init__(self, config: Config, *args: Any, bounds: Bounds | None = None, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        self.parser = self._make_parser()
        self._bounds = bounds or Bounds()
        self._whole: object = None  # the scope of the last request that came to its end
        self._is_offer = False  # the request offers to upgrade
        self._keep_alive = False  # its head leaves the connection open
        self._unfed = b""  # read, but not parsed yet
        self._unparsed = 0  # bytes of a head, a trailer or a chunk's extension: what only the parser keeps
        self._received = 0  # bytes
        self._received_before = 0  # when the timer was set
        self._awaited_since = 0.0  # when the timer was set, by the loop's clock
        self._timer: asyncio.TimerHandle | None = None  # set while a rest of a request is awaited
        self._untaken: UntakenAnswer | None = None  # while the sender does not keep up with its answers
        self._last_words: bytes | None = None  # written before we close, once all that is due is answered

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Expect a head."""
        super().connection_made(transport)
        self.flow = self._flow = _Flow(transport)
        self._await_rest()
        make_room(self.connections)  # type: ignore[arg-type]  # uvicorn's set: there are none but ours

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._await_nothing()
        self.resume_writing()
        super().connection_lost(exc)

    @property
    def idle(self) -> tuple[bool, float] | None:
        """See descriptors.ServedConnection."""
        if self.timeout_keep_alive_task is not None:
            return False, self.timeout_keep_alive_task.when() - self.timeout_keep_alive
        return None if self._timer is None else (self._is_in_body(), self._awaited_since)

    def data_received(self, data: bytes) -> None:
        """Parse, piece by piece, as long as the answers keep up."""
        if not self._received:
            self._await_nothing()  # for the first byte; a head has its own time
        self._received += len(data)
        if self._unfed or len(data) > _PIECE_BYTES:
            self._unfed += data
            self._feed_unfed()
        else:
            self._feed(data)

    def eof_received(self) -> bool:  # type: ignore[override]  # what asyncio has
        """Keep the connection of a sender that only closed its own side, until what it asked for is answered."""
        if self.scheme == "https":  # where asyncio cannot keep one side open
            return False
        if self._last_words is None:
            self._end(b"")
        return not self.transport.is_closing()

    def on_headers_complete(self) -> None:
        """Begin a request, unless its head is at fault or has to be read again."""
        if self._unparsed > self._bounds.head_bytes - _PIECE_BYTES and self._head_bytes() > self._bounds.head_bytes:
            raise _Refused(LARGE_HEAD)
        self._await_nothing()
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise _Refused(NO_TUNNEL)
            self._is_offer = True
            return
        names = [name for name, _ in self.headers]
        hosts = names.count(b"host")
        if hosts != 1 and (hosts or self.parser.get_http_version() != "1.0"):
            raise _Refused(NO_HOST)
        if self.expect_100_continue and self.parser.get_http_version() == "1.0":  # RFC 9110 §10.1.1
            self.expect_100_continue = False
        self._unparsed = 0
        super().on_headers_complete()
        self.headers = []  # where trailers go, and nobody sees them
        self._keep_alive = self.cycle.keep_alive
        if self.expect_100_continue or b"transfer-encoding" in names:
            self.cycle.keep_alive = False  # until its end: answered before, nobody knows whether and how that will come

    def on_body(self, body: bytes) -> None:
        """See HttpToolsProtocol."""
        self._unparsed = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """See HttpToolsProtocol; not for an offer, whose head is read again."""
        if not self._is_offer:
            self._whole = self.scope
            self._unparsed = 0
            self.cycle.keep_alive = self._keep_alive
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Go on with what waited for this answer."""
        was_last = not self.pipeline
        super().on_response_complete()
        if self.transport.is_closing():
            return
        if was_last and self._last_words is not None:
            self._close()
        elif self._unfed:
            self._feed_unfed()

    def send_400_response(self, msg: str) -> None:
        """See HttpToolsProtocol; as a problem, and not ahead of the answers that are due."""
        self._refuse(NO_REQUEST)

    def pause_writing(self) -> None:
        """Cut the sender off if it takes nothing of its answers for too long."""
        super().pause_writing()
        self._untaken = UntakenAnswer(self.loop, self.transport, self._bounds.progress_seconds)

    def resume_writing(self) -> None:
        """See HttpToolsProtocol."""
        if self._untaken is not None:
            self._untaken.taken()
            self._untaken = None
        super().resume_writing()

    def _feed_unfed(self) -> None:
        while self._unfed and self._last_words is None and len(self.pipeline) < _MOST_PIPELINED:
            piece, self._unfed = self._unfed[:_PIECE_BYTES], self._unfed[_PIECE_BYTES:]
            self._feed(piece)
        was_held, self._flow.held = self._flow.held, bool(self._unfed)
        if self._flow.held:
            self._flow.pause_reading()
        elif was_held:
            self._flow.resume_reading()

    def _feed(self, data: bytes) -> None:
        if self._last_words is not None:
            return
        self._unset_keepalive_if_required()
        self._unparsed += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            self._feed(self._head_without_offer() + data[offer.args[0] :])
            return
        except httptools.HttpParserError as error:
            refused = error.__context__  # where a callback of ours raised it
            self._refuse(refused.fault if isinstance(refused, _Refused) else NO_REQUEST)
            return
        if self._whole is not self.scope or self.cycle is None or self.cycle.response_complete:
            if self._unparsed > self._bounds.head_bytes:
                self._refuse(LARGE_HEAD)
            elif self._timer is None:
                self._await_rest()
        else:
            self._await_nothing()

    def _make_parser(self) -> httptools.HttpRequestParser:
        """Make a parser that goes on behind a `Connection: close`: what is not answered is not executed either.

        Others stop there for good, also where a trailer says it behind an answer that left the connection open.
        """
        parser = httptools.HttpRequestParser(self)
        parser.set_dangerous_leniencies(lenient_keep_alive=True)
        return parser

    def _head_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _head_without_offer(self) -> bytes:
        """Write the head again without its offer, for a parser that has not given up on what follows."""
        method, version = self.parser.get_method(), self.parser.get_http_version()
        self.parser = self._make_parser()
        self._is_offer = False
        self._unparsed = 0
        return head_without_offer(method, self.url, version, self.headers)

    def _refuse(self, fault: HttpFault) -> None:
        has_body = not self.url or self.parser.get_method() != b"HEAD"
        self._end(answer_to(fault, self.server_state.default_headers, has_body=has_body))

    def _end(self, last_words: bytes) -> None:
        """Read nothing more. When all whole requests are answered, write `last_words` and close."""
        self._last_words = last_words
        self._await_nothing()
        if self._is_in_body() and self.pipeline:
            self.pipeline.popleft()  # it will never be whole
        elif self._is_in_body():
            if self.cycle.response_started:
                self._last_words = b""
            self._close()
        elif self.cycle is None or self.cycle.response_complete:
            self._close()

    def _close(self) -> None:
        if self._last_words:
            self.transport.write(self._last_words)
        self.transport.close()

    def _is_in_body(self) -> bool:
        """Return whether a request has begun whose body is not complete."""
        return self._whole is not self.scope and self.cycle is not None and self.cycle.scope is self.scope

    def _await_rest(self) -> None:
        """Set the timer for the first byte, for the rest of a head, or for the next bytes of a body."""
        self._received_before = self._received
        self._awaited_since = self.loop.time()
        in_body, bounds = self._is_in_body(), self._bounds
        seconds = bounds.progress_seconds if in_body else bounds.head_seconds
        if not self._received:
            seconds = min(bounds.first_seconds, seconds)
        self._timer = self.loop.call_later(seconds, self._judge_reading, in_body)

    def _await_nothing(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _judge_reading(self, in_body: bool) -> None:
        is_advancing = self._received - self._received_before >= self._bounds.progress_bytes
        if in_body and (is_advancing or self.flow.read_paused):
            self._await_rest()
        else:
            self.transport.abort()


class Server(uvicorn.Server):
    """uvicorn whose stopping is decided by whoever set `should_exit`: readyz has to fail before it refuses."""

    def __init__(self, config: Config, certificate: Certificate | None) -> None:
        super().__init__(config)
        self.certificate = certificate

    def close_after_answers(self) -> None:
        """Say `Connection: close` in every answer from now on. Idle connections stay open, and new ones are taken."""
        for headers in (self.config.encoded_headers, self.server_state.default_headers):
            headers.append((b"connection", b"close"))

    async def refuse(self, listening: socket.socket, at_most_seconds: float) -> None:
        """Take no new connections, and wait until those that are open have no request, or for so many seconds."""
        make_unconnectable(listening)
        await asyncio.sleep(_ACCEPTED_SECONDS)  # who has connected is accepted, and asks
        for server in self.servers:
            server.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(at_most_seconds):
                while any(map(_has_request, self.server_state.connections)):  # noqa: ASYNC110 - uvicorn has no event for it
                    await asyncio.sleep(_LOOK_SECONDS)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until `should_exit`, and meanwhile look for a renewed certificate."""
        renewing = None if self.certificate is None else asyncio.create_task(self.certificate.keep_renewed())
        try:
            await super().serve(sockets)
        finally:
            if renewing is not None:
                renewing.cancel()


def _has_request(connection: object) -> bool:
    """Return whether a connection is anything but idle behind an answer: its first request may just come."""
    return getattr(connection, "timeout_keep_alive_task", None) is None
