"""A server of event streams over real sockets, told by the test what to answer, to say, and how to break off."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nConnection: close\r\n\r\n"
PUBLISHED = "2026-07-28T16:53:05.616Z"
_RESET = struct.pack("ii", 1, 0)


def an_answer(status: str, *headers: str, body: bytes = b"") -> bytes:
    """A whole answer."""
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


def frame(name: str, number: int = 0, device: str = "dev1") -> bytes:
    """An event as Particle's stream has it; `number` makes it another one."""
    return (
        f'event: {name}\ndata: {{"data":"{number}","ttl":60,"published_at":"{PUBLISHED}","coreid":"{device}"}}\n\n'
    ).encode()


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asked for; `at` by `time.monotonic`."""

    line: str
    headers: dict[str, str]
    at: float


class Channel:
    """The server's end of one connection."""

    def __init__(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.request = request
        self._reader = reader
        self._writer = writer
        self.chunked = True
        self.left = asyncio.Event()  # the client has closed its side

    async def send(self, data: bytes) -> None:
        """Raw bytes."""
        self._writer.write(data)
        await self._writer.drain()

    def write(self, data: bytes) -> None:
        """Bytes of the stream, as one chunk, which are in the kernel when this returns."""
        self._writer.write(b"%x\r\n%b\r\n" % (len(data), data) if self.chunked else data)

    async def say(self, data: bytes) -> None:
        """Bytes of the stream, as one chunk."""
        await self.send(b"%x\r\n%b\r\n" % (len(data), data) if self.chunked else data)

    async def event(self, name: str, number: int = 0) -> None:
        """One event."""
        await self.say(frame(name, number))

    async def finish(self) -> None:
        """End in good order."""
        if self.chunked:
            await self.send(b"0\r\n\r\n")
        self.close()

    def half_close(self) -> None:
        """Say that nothing more will come, and go on listening."""
        self._writer.write_eof()

    def reset(self) -> None:
        """Break off with a TCP reset."""
        with suppress(OSError, ValueError, AttributeError):  # it may be closed
            self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._writer.transport.abort()

    def close(self) -> None:
        """Close the connection."""
        self._writer.close()

    async def serve(self) -> None:
        """Read until the client has closed its side."""
        with suppress(OSError):
            while await self._reader.read(1024):
                pass
        self.left.set()
        self.close()


class SseUpstream:
    """Answers each connection with the first of `answers`, and with `head` and silence where there are none."""

    def __init__(self) -> None:
        self.answers: deque[bytes | None] = deque()  # None: never answer
        self.head = CHUNKED
        self.requests: list[Request] = []
        self.channels: list[Channel] = []  # those that have the head of a stream
        self.port = 0
        self._news = asyncio.Condition()
        self._server: asyncio.Server | None = None
        self._tls: ssl.SSLContext | None = None

    @property
    def url(self) -> str:
        """Where the product's stream is."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}/v1/products/tracker/events"

    async def listen(self, tls: ssl.SSLContext | None = None) -> None:
        """Begin to take connections; on the same port as before, if there was one."""
        self._tls = tls or self._tls
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", self.port, ssl=self._tls, limit=1 << 20, reuse_address=True
        )
        self.port = self._server.sockets[0].getsockname()[1]

    def go(self) -> None:
        """Take no connections any more, and reset those that are there."""
        assert self._server is not None
        self._server.close()
        for channel in self.channels:
            channel.reset()

    async def channel(self, number: int = 1) -> Channel:
        """The connection that came as the `number`th and was given a stream."""
        await self.until(lambda: len(self.channels) >= number)
        return self.channels[number - 1]

    async def until(self, condition: Callable[[], bool], seconds: float = 10) -> None:
        """Return when the condition holds, looked at whenever a client asks for something."""
        async with asyncio.timeout(seconds), self._news:
            await self._news.wait_for(condition)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            text = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            line, *lines = text.rstrip().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            request = Request(line, headers, time.monotonic())
            await self._answer(Channel(request, reader, writer), writer)
        except (OSError, asyncio.IncompleteReadError):
            writer.close()
        except asyncio.CancelledError:
            writer.transport.abort()

    async def _answer(self, channel: Channel, writer: asyncio.StreamWriter) -> None:
        answer = self.answers.popleft() if self.answers else b""
        if answer:
            writer.write(answer)
            await writer.drain()
        elif answer is not None:
            channel.chunked = b"chunked" in self.head
            await channel.send(self.head)
        async with self._news:
            self.requests.append(channel.request)
            if answer == b"":
                self.channels.append(channel)
            self._news.notify_all()
        if answer:
            writer.close()
        else:
            await channel.serve()


@asynccontextmanager
async def sse_upstream(tls: ssl.SSLContext | None = None) -> AsyncIterator[SseUpstream]:
    """A server that listens."""
    upstream = SseUpstream()
    await upstream.listen(tls)
    try:
        yield upstream
    finally:
        upstream.go()
