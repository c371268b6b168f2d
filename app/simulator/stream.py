"""A Particle-like event stream on this machine, with what makes streams a worry: now and then one stalls, or is cut.

What is published while nobody can receive it is gone, as it is with Particle.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from dataclasses import dataclass
from urllib.parse import quote

from app.simulator.device import Published

_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
_NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_GREETING = b":ok\n\n\n"
_KEEP_ALIVE = b"\n"
_MOST_WAITING_BYTES = 1 << 18  # a reader that is further behind misses events


@dataclass(frozen=True, slots=True)
class Troubles:
    """When streams fail: first at `first_seconds`, then at random, `every_seconds` apart on average."""

    first_seconds: float = 20.0
    every_seconds: float = 60.0


class ProductStream:
    """Gives every event to every connection, with a bare newline each `keep_alive_seconds`.

    Troubles come in turns: a stall (the connections stay open, and nothing is written to them any more), and a cut
    (they end in the middle of the next event).
    """

    def __init__(
        self,
        product: str,
        *,
        keep_alive_seconds: float = 1.0,
        troubles: Troubles = Troubles(),
        seed: int = 1,
    ) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._path = f"/v1/products/{quote(product, safe='')}/events"
        self._keep_alive_seconds = keep_alive_seconds
        self._troubles = troubles
        self._random = random.Random(seed)  # noqa: S311 - to look real, not to keep a secret
        self._connections: set[asyncio.StreamWriter] = set()
        self._open: set[asyncio.StreamWriter] = set()  # those that are written to
        self._cuts_next = False

    @property
    def url(self) -> str:
        """Where it is served, from the moment when it was made; connections are answered once it runs."""
        return f"http://127.0.0.1:{self._listening.getsockname()[1]}{self._path}"

    def send(self, published: Published) -> None:
        """Give an event to whoever can receive it."""
        frame = published.frame()
        if self._cuts_next and self._open:
            self._cut(frame)
            return
        for writer in self._open:
            if writer.transport.get_write_buffer_size() < _MOST_WAITING_BYTES:
                writer.write(_chunk(frame))

    def close(self) -> None:
        """Let go of the port, where it is never run."""
        self._listening.close()

    async def run(self) -> None:
        """Serve until cancelled."""
        server = await asyncio.start_server(self._serve, sock=self._listening)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._keep_alive())
                tasks.create_task(self._make_trouble())
        finally:
            server.close()
            for writer in self._connections:
                writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until the client leaves."""
        self._connections.add(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            request = await reader.readuntil(b"\r\n\r\n")
            if request.split(b" ", 2)[1].decode("latin-1") == self._path:
                writer.write(_HEAD + _chunk(_GREETING))
                self._open.add(writer)
                while await reader.read(1024):
                    pass
            else:
                writer.write(_NOT_FOUND)
        self._open.discard(writer)
        self._connections.discard(writer)
        writer.close()

    async def _keep_alive(self) -> None:
        while True:
            await asyncio.sleep(self._keep_alive_seconds)
            for writer in self._open:
                writer.write(_chunk(_KEEP_ALIVE))

    async def _make_trouble(self) -> None:
        await asyncio.sleep(self._troubles.first_seconds)
        while True:
            self._open.clear()  # a stall: they are kept open by their clients, and written to no more
            await asyncio.sleep(self._pause())
            self._cuts_next = True
            await asyncio.sleep(self._pause())

    def _cut(self, frame: bytes) -> None:
        self._cuts_next = False
        for writer in self._open:
            writer.write(_chunk(frame[: len(frame) // 2]))
            writer.close()
        self._open.clear()

    def _pause(self) -> float:
        return self._random.uniform(0.8, 1.2) * self._troubles.every_seconds


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)
