"""A raw TCP client of a stream: it sees the bytes as they come, and knows HTTP only as far as it must."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Self
from urllib.parse import urlsplit

from tests.support.numbered import number_of

PATIENCE_SECONDS = 10.0


class RawClient:
    """One connection and one GET. `head` is the head of the answer, `body` what was read of its body so far."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.head = ""
        self.body = b""
        self.chunks: list[bytes] = []
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(cls, url: str, tls: ssl.SSLContext | None = None, *, limit: int = 1 << 16) -> Self:
        """Open a connection without asking anything. Raises OSError."""
        address = urlsplit(url)
        return cls(*await asyncio.open_connection(address.hostname, address.port, ssl=tls, limit=limit))

    async def get(self, url: str, headers: Mapping[str, str] | None = None) -> None:
        """Ask for the URL and read the answer's head."""
        path = urlsplit(url).path
        lines = [f"GET {path} HTTP/1.1", "Host: upstream", *(f"{k}: {v}" for k, v in (headers or {}).items()), "", ""]
        self._writer.write("\r\n".join(lines).encode())
        async with asyncio.timeout(PATIENCE_SECONDS):
            self.head = (await self._reader.readuntil(b"\r\n\r\n")).decode()

    @property
    def status(self) -> int:
        """The answer's."""
        return int(self.head.split()[1])

    async def read_until(self, end: bytes) -> bytes:
        """The body up to and with `end`, from where the last call stopped. Raises EOFError where it ends before."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while end not in self.body:
                self.body += await self._more()
        found, _, self.body = self.body.partition(end)
        return found + end

    async def read_to_end(self) -> bytes:
        """The rest of the connection, chunked or not, as it is on the wire."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            return self.body + await self._reader.read()

    async def is_silent(self, seconds: float) -> bool:
        """Whether not a byte comes for so long."""
        try:
            await asyncio.wait_for(self._reader.read(1), seconds)
        except TimeoutError:
            return True
        return False

    def close(self) -> None:
        """Close at once."""
        self._writer.transport.abort()

    async def _more(self) -> bytes:
        if "Transfer-Encoding: chunked" not in self.head:
            data = await self._reader.read(1 << 16)
            if not data:
                raise EOFError
            return data
        try:
            size = int(await self._reader.readuntil(b"\r\n"), 16)
            chunk = (await self._reader.readexactly(size + 2))[:-2]
        except asyncio.IncompleteReadError:
            raise EOFError from None
        if not chunk:
            raise EOFError
        self.chunks.append(chunk)
        return chunk


@asynccontextmanager
async def listening(url: str, headers: Mapping[str, str] | None = None) -> AsyncIterator[RawClient]:
    """A client that has the answer's head."""
    client = await RawClient.connect(url)
    try:
        await client.get(url, headers)
        yield client
    finally:
        client.close()


def numbers_in(stream: bytes) -> list[int]:
    """The numbers of the events in a stream's bytes."""
    data = [json.loads(line.removeprefix(b"data: "))["data"] for line in stream.splitlines() if line[:5] == b"data:"]
    return [found[1] for text in data if (found := number_of(text.encode()))]
