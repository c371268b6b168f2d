"""A flood: prepared events to one stream as fast as it takes them, so that the upstream is never the bottleneck."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import BinaryIO

from tests.support.numbered import Numbered
from tests.support.upstream import wire
from tests.support.upstream.journal import Closed, Journal, Opened, now
from tests.support.upstream.rules import Rules

_CHUNK_EVENTS = 200  # about 64 KiB
_READ_BYTES = 1 << 18


class Flood:
    """Keeps `count` events ready in a file, and gives them to the first stream that opens; later ones are quiet."""

    def __init__(self, rules: Rules, events: Numbered, count: int, journal: Journal) -> None:
        self._rules = rules
        self._journal = journal
        self._opened = 0
        self._prepared = _prepared(rules, events, count)

    @asynccontextmanager
    async def listening(self, port: int) -> AsyncIterator[None]:
        """It takes connections inside the block."""
        with self._prepared:
            server = await asyncio.start_server(self._serve, "127.0.0.1", port)
            try:
                yield
            finally:
                server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._opened += 1
        number = self._opened
        sending: asyncio.Task[None] | None = None
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            self._journal.add(Opened(now(), number, head))
            sending = asyncio.create_task(self._send(writer, first=number == 1))
            while await reader.read(65536):
                pass
        if sending is not None:
            sending.cancel()
        self._journal.add(Closed(now(), number))
        writer.transport.abort()

    async def _send(self, writer: asyncio.StreamWriter, *, first: bool) -> None:
        coding = wire.Coding(self._rules)
        writer.write(wire.stream_head(self._rules) + b"".join(coding.pieces(wire.greeting(self._rules))))
        with contextlib.suppress(ConnectionError):
            while first and (slice_ := self._prepared.read(_READ_BYTES)):
                writer.write(slice_)
                await writer.drain()
            while self._rules.keep_alive is not None:
                await asyncio.sleep(self._rules.keep_alive_seconds)
                writer.write(b"".join(coding.pieces(wire.keep_alive(self._rules))))
                await writer.drain()


def _prepared(rules: Rules, events: Numbered, count: int) -> BinaryIO:
    """The events as they go out, in a file that nobody else sees."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 - its user closes it
    coding = wire.Coding(rules)
    for first in range(0, count, _CHUNK_EVENTS):
        numbers = range(first, min(first + _CHUNK_EVENTS, count))
        frames = b"".join(b"event: temperature\ndata: %b\n\n" % events.streamed(number) for number in numbers)
        file.write(b"".join(coding.pieces(frames)))
    file.seek(0)
    return file
