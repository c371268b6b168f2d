"""A TCP source on a real SQLite store, and a sender of lines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from prometheus_client import CollectorRegistry

from ingest.endpoint_coverage import EndpointCoverageRules
from ingest.event import Origin
from ingest.formats.particle import ParticleFormat
from ingest.inbox import Inbox
from ingest.intake import SourceIntake
from ingest.metrics import Metrics
from ingest.protocols import Store
from storage.coverage import SqlCoverage
from storage.engine import open_database
from storage.migrate import migrate
from storage.store import SqlStore
from tests.support.gated_database import GatedDatabase
from tests.support.tcp_mode.headrace_tcp.source import TcpSource

ORIGIN = Origin("tracker", "fleet", "tcp")


@dataclass(frozen=True, slots=True)
class TcpOnStore:
    """The source `fleet`, everything behind it and a connection to it; `running` is its task."""

    database: GatedDatabase
    metrics: Metrics
    source: TcpSource
    running: asyncio.Task[None]
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, *lines: bytes) -> list[bytes]:
        """Send lines at once and return their answers; fewer where the connection ends."""
        try:
            self.writer.write(b"".join(b"%b\n" % line for line in lines))
            await self.writer.drain()
            return [answer for _ in lines if (answer := (await self.reader.readline()).rstrip())]
        except OSError:
            return []


@asynccontextmanager
async def tcp_on_store(
    folder: Path, *, spoil: Callable[[Store], Store] = lambda store: store
) -> AsyncIterator[TcpOnStore]:
    """A source that listens. `spoil` may put something between the inbox and the store."""
    database = GatedDatabase(open_database(f"sqlite:///{folder}/test.db"))
    await migrate(database)
    metrics = Metrics(CollectorRegistry())
    store = spoil(SqlStore(database, _now))
    inbox = Inbox(store, metrics, max_events=12_000, max_bytes=10**9, patience_seconds=5)
    committing = asyncio.create_task(inbox.run())
    source = TcpSource(
        ORIGIN,
        0,
        ParticleFormat(ORIGIN, ("hook-sent/",)),
        SourceIntake(inbox, metrics, "fleet", "tcp"),
        SqlCoverage(database),
        _now,
        EndpointCoverageRules(extend=0.01),
    )
    running = asyncio.create_task(source.run())
    while not source.condition().up:  # noqa: ASYNC110 - a state
        await asyncio.sleep(0.005)
    reader, writer = await asyncio.open_connection("127.0.0.1", source.port)
    try:
        yield TcpOnStore(database, metrics, source, running, reader, writer)
    finally:
        database.open_gate()
        writer.close()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        inbox.close()
        await committing
    await database.close()


def _now() -> datetime:
    return datetime.now(UTC)
