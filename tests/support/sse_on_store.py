"""An SSE source on a real SQLite store, listening to a server of the test's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from prometheus_client import CollectorRegistry

from ingest.event import Origin
from ingest.formats.particle import ParticleFormat
from ingest.inbox import Inbox
from ingest.intake import SourceIntake
from ingest.leases import OwnLeases
from ingest.metrics import Metrics
from ingest.protocols import Store
from ingest.reconnect import OwnOpens
from ingest.sources.sse.source import SseSource
from storage.coverage import SqlCoverage
from storage.engine import open_database
from storage.migrate import migrate
from storage.store import SqlStore
from tests.support.gated_database import GatedDatabase
from tests.support.sse_rig import hasty
from tests.support.sse_upstream import SseUpstream, sse_upstream

ORIGIN = Origin("tracker", "fleet", "sse")


@dataclass(frozen=True, slots=True)
class SseOnStore:
    """The source `fleet` and everything around it; `running` is its task."""

    upstream: SseUpstream
    database: GatedDatabase
    metrics: Metrics
    source: SseSource
    running: asyncio.Task[None]


@asynccontextmanager
async def sse_on_store(
    folder: Path, *, streams: int = 1, spoil: Callable[[Store], Store] = lambda store: store
) -> AsyncIterator[SseOnStore]:
    """A source that runs. `spoil` may put something between the inbox and the store."""
    database = GatedDatabase(open_database(f"sqlite:///{folder}/test.db"))
    await migrate(database)
    metrics = Metrics(CollectorRegistry())
    inbox = Inbox(
        spoil(SqlStore(database, _now)),
        metrics,
        max_events=12_000,
        max_bytes=10**9,
        patience_seconds=5,
    )
    committing = asyncio.create_task(inbox.run())
    async with sse_upstream() as upstream:
        source = SseSource(
            ORIGIN,
            hasty(upstream.url, streams=streams),
            ParticleFormat(ORIGIN, ("hook-sent/",)),
            SourceIntake(inbox, metrics, "fleet", "sse"),
            SqlCoverage(database),
            OwnLeases(),
            OwnOpens(),
            metrics,
            _now,
        )
        running = asyncio.create_task(source.run())
        try:
            yield SseOnStore(upstream, database, metrics, source, running)
        finally:
            database.open_gate()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            inbox.close()
            await committing
    await database.close()


def _now() -> datetime:
    return datetime.now(UTC)
