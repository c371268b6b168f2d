"""One HTTP/1.1 keep-alive connection, as little of it as a load driver needs, so that the driver is not the limit."""

from __future__ import annotations

import asyncio
import re
from typing import cast

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Connection(asyncio.Protocol):
    """Sends one request at a time and reads its answer. `head` is the head of the last answer, in lower case."""

    def __init__(self) -> None:
        self.head = b""
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._answer: asyncio.Future[int] | None = None

    @property
    def usable(self) -> bool:
        """Whether a request can be sent: the server has not closed, and did not say that it will."""
        return self._transport is not None and b"\r\nconnection: close" not in self.head

    async def exchange(self, request: bytes) -> int:
        """The status of the answer. Raises ConnectionError if the connection is cut before its end."""
        if self._transport is None:
            raise ConnectionResetError
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio.Protocol."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio.Protocol."""
        self._transport = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionResetError())

    def data_received(self, data: bytes) -> None:
        """asyncio.Protocol."""
        received = self._received = self._received + data if self._received else data
        end = received.find(b"\r\n\r\n")
        if end < 0:
            return
        status = int(received[9:12])
        if status != 204:
            length = _LENGTH.search(received[: end + 2])
            if length is None or len(received) < end + 4 + int(length[1]):
                return
        self.head = received[:end].lower()
        self._received = b""
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(status)


async def connect(host: str, port: int) -> Connection:
    """A fresh connection. Raises OSError."""
    _, connection = await asyncio.get_running_loop().create_connection(Connection, host, port)
    return connection
