"""The test upstream: it plays a Particle event stream over real TCP, byte by byte, and writes down what it did.

It imports nothing of the product. What is published while a stream cannot take it is gone, as it is with Particle.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Protocol, Self, get_args

from tests.support.numbered import Numbered
from tests.support.server import free_port
from tests.support.upstream import wire
from tests.support.upstream.doors import Door, Doors
from tests.support.upstream.journal import Answered, Closed, Journal, Listening, Opened, Sent, Struck, now
from tests.support.upstream.rules import BREAKS, Answer, Fault, Nonsense, Rules, Streams
from tests.support.upstream.stream import Stream, reset
from tests.support.upstream.wire import header

PATH = "/v1/products/tracker/events"
_HISTORY = 1000
_BACKLOG = 64
NAME = "temperature"  # of every numbered event


class Events(Protocol):
    """What `publish` sends, by number: Numbered, or a fleet's."""

    def body(self, number: int, *, as_object: bool = False) -> bytes:
        """The webhook body of an event."""
        ...

    def streamed(self, number: int, *, as_object: bool = False) -> bytes:
        """The JSON of the same event in a stream, without its name."""
        ...


class Upstream:
    """An asynchronous context manager: it listens inside the block. `rules` may be replaced; later streams obey them.

    `journal` is what it did so far; `events` are the numbered events that `publish` sends.
    """

    def __init__(
        self,
        rules: Rules | None = None,
        *,
        events: Events | None = None,
        journal: Journal | None = None,
        tls: ssl.SSLContext | None = None,
        port: int = 0,
    ) -> None:
        self.rules = rules or Rules()
        self.events: Events = events or Numbered("upstream", datetime.now(UTC))
        self.journal = journal or Journal()
        self.port = port or free_port()
        self._tls = tls
        self._doors = Doors(time.monotonic)
        self._listener: asyncio.Server | None = None
        self._streams: dict[int, Stream] = {}
        self._handlers: set[asyncio.Task[None]] = set()
        self._history: deque[int] = deque(maxlen=_HISTORY)
        self._return: asyncio.Task[None] | None = None
        self._opened = 0
        self._resend_next = 0
        self._changed = asyncio.Event()

    async def __aenter__(self) -> Self:
        await self._listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._refuse()
        ending = [*self._handlers, *([self._return] if self._return else [])]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)

    @property
    def url(self) -> str:
        """The address of the product's stream."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}{PATH}"

    @property
    def streams(self) -> Sequence[int]:
        """The connections that events are given to, the oldest first."""
        return [stream.number for stream in self._streams.values() if stream.hears]

    async def wait_for(self, condition: Callable[[], bool], seconds: float = 10.0) -> None:
        """Return when a condition on this upstream holds. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            while not condition():
                self._changed.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), 0.05)

    async def publish(self, *numbers: int) -> None:
        """Send numbered events to every stream; streams that have no room, or are stalled, miss them."""
        for number in numbers:
            self._publish(number, list(self._streams.values()))
            self._history.append(number)
            await asyncio.sleep(0)

    async def emit(self, name: str | None, data: str) -> None:
        """Send any event to every stream, to its end; it is not in the journal."""
        await self.raw(wire.frame(name, data, self.rules))

    async def raw(self, data: bytes) -> None:
        """Send any bytes to every stream, to their end. A client that leaves meanwhile is no fault."""
        for stream in list(self._streams.values()):
            with contextlib.suppress(ConnectionError):
                await stream.push(data)

    async def fault(self, fault: Fault) -> None:
        """Let something go wrong; see Fault."""
        self.journal.add(Struck(now(), fault))
        self._resend_next = max(self._resend_next, fault.resend)
        victims = self._victims(fault.streams)
        if fault.kind in BREAKS:
            for stream in victims:
                getattr(stream, fault.kind)()
            return
        self._doors.put(Door(fault.kind, fault.retry_after, fault.times), fault.seconds)
        if fault.kind == "refuse":
            self._refuse()
            self._return = asyncio.create_task(self._listen_after(fault.seconds))
        for stream in victims:
            stream.reset()

    def keep_alive(self) -> None:
        """A sign of life on every stream, now."""
        for stream in self._streams.values():
            stream.keep_alive()

    async def _listen(self) -> None:
        listener = socket.create_server(("127.0.0.1", self.port), backlog=_BACKLOG)
        if self.rules.send_buffer is not None:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self.rules.send_buffer)
        self._listener = await asyncio.start_server(self._serve, sock=listener, ssl=self._tls)
        self.journal.add(Listening(now(), True))

    async def _listen_after(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self._listen()

    def _refuse(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
            self.journal.add(Listening(now(), False))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from its request to its end."""
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        self._opened += 1
        number = self._opened
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            self.journal.add(Opened(now(), number, head))
            await self._answer(number, head, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # clients come and go; and where we are cancelled there is nothing left to do either
        finally:
            self._forget(number)
            writer.transport.abort()
            self._handlers.discard(task)

    async def _answer(self, number: int, head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        door = self._doors.next()
        kind = door.kind if door else self._refusal(head)
        if kind is None:
            await self._stream(number, head, reader, writer)
            return
        self.journal.add(Answered(now(), number, kind))
        if kind in get_args(Answer):
            writer.write(wire.answer(kind, self.rules, door.retry_after if door else None))  # type: ignore[arg-type]
            await writer.drain()
            writer.close()
        elif kind in get_args(Nonsense):
            writer.write(wire.nonsense(kind))  # type: ignore[arg-type]
            await writer.drain()
            writer.close()
        elif kind == "refuse":  # it was in the backlog when the listener closed
            reset(writer)
        else:
            await _until_gone(reader)

    async def _stream(self, number: int, head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        stream = self._streams[number] = Stream(number, writer, self.rules, self.journal)
        stream.begin()
        resend, self._resend_next = max(self._resend_next, self.rules.resend), 0
        last = header(head, "last-event-id") or ""
        for past in list(self._history)[-resend:] if resend else []:
            if not last.isdigit() or past > int(last):
                self._publish(past, [stream], again=True)
        self._changed.set()
        beating = asyncio.create_task(self._beat(stream))
        try:
            await _until_gone(reader)
        finally:
            beating.cancel()

    async def _beat(self, stream: Stream) -> None:
        """Keep one stream alive."""
        while self.rules.keep_alive is not None:
            await asyncio.sleep(self.rules.keep_alive_seconds)
            stream.keep_alive()

    def _refusal(self, head: str) -> Answer | None:
        token = self.rules.token
        return "401" if token is not None and header(head, "authorization") != f"Bearer {token}" else None

    def _publish(self, number: int, streams: Sequence[Stream], *, again: bool = False) -> None:
        data = self.events.streamed(number, as_object=self.rules.as_object).decode()
        frame = wire.frame(NAME, data, self.rules, number)
        handed: list[int] = []
        dropped: list[int] = []
        at = now()
        for stream in streams:
            (handed if stream.offer(frame) else dropped).append(stream.number)
        self.journal.add(Sent(number, at, now(), handed, dropped, again))

    def _victims(self, streams: Streams) -> Sequence[Stream]:
        hearing = [stream for stream in self._streams.values() if stream.hears]
        if isinstance(streams, tuple):
            return [stream for stream in hearing if stream.number in streams]
        return {"oldest": hearing[:1], "newest": hearing[-1:]}.get(streams, hearing)

    def _forget(self, number: int) -> None:
        if stream := self._streams.pop(number, None):
            stream.leave()
        self.journal.add(Closed(now(), number))
        self._changed.set()


async def _until_gone(reader: asyncio.StreamReader) -> None:
    """Return when the client closes; raises ConnectionError when it resets."""
    while await reader.read(65536):
        pass
