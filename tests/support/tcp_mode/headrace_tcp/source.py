"""The TCP source: a line is answered `ok <n>` after its commit, or `later`; n counts answers of a connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime

import structlog

from ingest.endpoint_coverage import EndpointCoverage, EndpointCoverageRules
from ingest.errors import TooLarge
from ingest.event import Origin, Outcome
from ingest.intake import SourceIntake
from ingest.protocols import Coverage, Format
from ingest.source_health import Condition, LastSeen

_CHUNK_BYTES = 64 * 1024
_MAX_LINE_BYTES = 1024 * 1024

log = structlog.get_logger(__name__)


class TcpSource:
    """protocols.Source for one port of 127.0.0.1. `port` 0 takes a free one, which `port` then is."""

    def __init__(
        self,
        origin: Origin,
        port: int,
        format_: Format,
        intake: SourceIntake,
        coverage: Coverage,
        clock: Callable[[], datetime],
        rules: EndpointCoverageRules | None = None,
    ) -> None:
        self.port = port
        self._origin = origin
        self._format = format_
        self._intake = intake
        self._clock = clock
        self._coverage = EndpointCoverage(coverage, origin, rules or EndpointCoverageRules())
        self._server: asyncio.Server | None = None
        self._conversations: set[asyncio.Task[None]] = set()
        self._reading: set[asyncio.Task[None]] = set()
        self._paused = False

    async def run(self) -> None:
        """Listen until cancelled. Raises OSError where the port is taken."""
        if self._paused:
            return
        self._server = await asyncio.start_server(self._begin, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        try:
            await self._coverage.run()
        finally:
            self._server.close()
            for conversation in self._conversations:
                conversation.cancel()

    async def pause(self) -> None:
        """Take no connection and read no line any more; lines that were read are still answered."""
        self._paused = True
        if self._server is not None:
            self._server.close()
        for conversation in self._reading:
            conversation.cancel()
        await self._coverage.stop()

    def last_seen(self) -> LastSeen:
        """See protocols.Source."""
        return self._intake.last_seen()

    def condition(self) -> Condition:
        """Up while the port is open."""
        return Condition(up=self._server is not None and self._server.is_serving())

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        conversation = asyncio.ensure_future(self._converse(reader, writer))
        self._conversations.add(conversation)
        conversation.add_done_callback(self._conversations.discard)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the lines of a connection, in order, until it ends or sends what is no line."""
        rest, answered = b"", 0
        try:
            while (chunk := await self._read(reader)) and len(rest) + len(chunk) <= _MAX_LINE_BYTES:
                self._intake.heard(self._clock())
                *lines, rest = (rest + chunk).split(b"\n")
                for stored in await self._settle(lines):
                    answered += 1
                    writer.write(b"ok %d\n" % answered if stored else b"later\n")
                await writer.drain()
        except (OSError, TooLarge) as error:
            log.info("conversation_ended", source=self._origin.source, error=str(error))
        finally:
            writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> bytes:
        """Return what has come; empty where nothing more will be taken."""
        task = asyncio.current_task()
        if self._paused or task is None:
            return b""
        self._reading.add(task)
        try:
            return await reader.read(_CHUNK_BYTES)
        finally:
            self._reading.discard(task)

    async def _settle(self, lines: Sequence[bytes]) -> list[bool]:
        """Commit the events of these lines together and return which lines are done with. Raises TooLarge."""
        records = [self._format.decode(line, {}, self._clock()) for line in lines]
        outcomes = iter(await self._intake.settle([record for of_line in records for record in of_line]))
        return [Outcome.DEFERRED not in [next(outcomes) for _ in of_line] for of_line in records]
