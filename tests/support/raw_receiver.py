"""A receiver of POSTs that answers with whatever bytes a test gives it, or not at all."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

GIB = 1 << 30


@dataclass(frozen=True)
class Received:
    """One request, and the number of the connection that brought it."""

    head: str
    headers: dict[str, str]  # by lower-case names
    body: bytes
    connection: int


Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[bool]]
"""Writes an answer; returns whether the connection goes on."""


class RawReceiver:
    """Answers each request as `answer` says, which a test may change at any time. `sent` counts bytes of bodies."""

    def __init__(self, port: int, scheme: str) -> None:
        self.url = f"{scheme}://127.0.0.1:{port}/events"
        self.answer: Answer = saying(b"HTTP/1.1 204 No Content\r\n\r\n")
        self.received: list[Received] = []
        self.connections = 0
        self.open = 0

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take requests from one connection until it ends."""
        self.connections += 1
        self.open += 1
        number = self.connections
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                while True:
                    head = (await reader.readuntil(b"\r\n\r\n")).decode()
                    lines = [line.split(":", 1) for line in head.split("\r\n")[1:] if line]
                    headers = {name.lower(): value.strip() for name, value in lines}
                    if not head.startswith("POST "):  # meant for somebody who had this port before
                        break
                    body = await reader.readexactly(int(headers.get("content-length", "0")))
                    self.received.append(Received(head, headers, body, number))
                    if not await self.answer(reader, writer):
                        break
        finally:
            self.open -= 1
            writer.close()


def saying(answer: bytes, *, goes_on: bool = True) -> Answer:
    """Return an answer of these bytes."""

    async def answered(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(answer)
        await writer.drain()
        return goes_on

    return answered


def status(number: int, *headers: str, body: bytes = b"") -> Answer:
    """Return an answer in good order."""
    head = "".join(f"{line}\r\n" for line in (f"HTTP/1.1 {number} Said", f"Content-Length: {len(body)}", *headers))
    return saying(f"{head}\r\n".encode() + body)


async def hanging(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> bool:
    """Say nothing until the client has gone."""
    await reader.read()
    return False


async def resetting(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Reset the connection in place of an answer."""
    writer.transport.abort()
    return False


def dribbling(number: int) -> Answer:
    """Return the head of an answer of a GiB, and a byte of it; nothing more comes."""

    async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(f"HTTP/1.1 {number} Said\r\nContent-Length: {GIB}\r\n\r\nx".encode())
        return await hanging(reader, writer)

    return answered


class Flood:
    """Answers with a GiB, as fast as the client takes it; `written` bytes of it have been taken."""

    def __init__(self, number: int) -> None:
        self._number = number
        self.written = 0

    async def __call__(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Write until all is written, or the client has gone."""
        writer.write(f"HTTP/1.1 {self._number} Said\r\nContent-Length: {GIB}\r\n\r\n".encode())
        while self.written < GIB:
            writer.write(b"x" * 65536)
            await writer.drain()
            await asyncio.sleep(0)  # or nobody would learn that the connection was reset
            self.written += 65536
        return False


@asynccontextmanager
async def raw_receiver(context: ssl.SSLContext | None = None) -> AsyncIterator[RawReceiver]:
    """A receiver on a free port of 127.0.0.1; with TLS where there is a context."""
    receiver: RawReceiver

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await receiver.converse(reader, writer)

    server = await asyncio.start_server(converse, "127.0.0.1", 0, ssl=context, limit=4 << 20)
    receiver = RawReceiver(server.sockets[0].getsockname()[1], "http" if context is None else "https")
    try:
        yield receiver
    finally:
        server.close()
