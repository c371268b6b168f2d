"""One open stream of the test upstream: bytes go out, or are dropped where its reader is too slow."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import cast

from tests.support.upstream import wire
from tests.support.upstream.journal import Deaf, Hears, Journal, now
from tests.support.upstream.rules import Rules

_LINGER_ZERO = struct.pack("ii", 1, 0)


class Stream:
    """A connection that was answered with a stream. Each method that breaks it says so in the journal."""

    def __init__(self, number: int, writer: asyncio.StreamWriter, rules: Rules, journal: Journal) -> None:
        self.number = number
        self.hears = False
        self._writer = writer
        self._rules = rules
        self._journal = journal
        self._coding = wire.Coding(rules)
        self._over = self._cuts_next = False

    @property
    def over(self) -> bool:
        """Whether a fault ended it; the client may not know yet."""
        return self._over

    def begin(self) -> None:
        """Send the head and the greeting; from now on events go to it."""
        self._writer.write(wire.stream_head(self._rules))
        self._write(wire.greeting(self._rules))
        self._hear()

    def offer(self, frame: bytes) -> bool:
        """Hand a frame over whole, or drop it whole; True where it was handed over."""
        if self._over:
            return False
        if self._cuts_next:
            self._cut(frame)
            return False
        if self._writer.transport.get_write_buffer_size() + len(frame) > self._rules.backlog:
            self._deafen("dropped")
            return False
        self._hear()
        self._write(frame)
        return True

    async def push(self, data: bytes) -> None:
        """Send any bytes, however slowly they are taken. Raises ConnectionError."""
        if not self._over:
            self._write(data)
            await self._writer.drain()

    def keep_alive(self) -> None:
        """A sign of life, unless there is no room for one."""
        if not self._over and self._writer.transport.get_write_buffer_size() < self._rules.backlog:
            self._write(wire.keep_alive(self._rules))

    def stall(self) -> None:
        """Write nothing any more."""
        self._end("stall")

    def finish(self) -> None:
        """End the body in good order."""
        self._writer.write(self._coding.end())
        self._end("finish")
        self._writer.close()

    def half_close(self) -> None:
        """Close our side only; a TLS connection has no such thing and is closed."""
        self._end("half_close")
        if self._writer.can_write_eof():
            self._writer.write_eof()
        else:
            self._writer.close()

    def reset(self) -> None:
        """RST."""
        self._end("reset")
        reset(self._writer)

    def cut(self) -> None:
        """Close in the middle of the next frame that is offered."""
        self._cuts_next = True

    def leave(self) -> None:
        """The client is gone."""
        self._end("left")

    def _cut(self, frame: bytes) -> None:
        self._write(frame[: len(frame) // 2])
        self._end("cut")
        self._writer.close()

    def _end(self, why: str) -> None:
        self._deafen(why)
        self._over = True

    def _hear(self) -> None:
        if not self.hears:
            self.hears = True
            self._journal.add(Hears(now(), self.number))

    def _deafen(self, why: str) -> None:
        if self.hears:
            self.hears = False
            self._journal.add(Deaf(now(), self.number, why))

    def _write(self, data: bytes) -> None:
        for piece in self._coding.pieces(data):
            self._writer.write(piece)


def reset(writer: asyncio.StreamWriter) -> None:
    """Close a connection with RST and without what is still to be sent."""
    connection = cast("socket.socket | None", writer.get_extra_info("socket"))
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
    writer.transport.abort()
