"""An SSE source with a real inbox behind it, in front of a store and a coverage that do as the test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry

from ingest.event import Event, Origin, Outcome, Record, Reject
from ingest.formats.particle import ParticleFormat
from ingest.inbox import Inbox
from ingest.intake import SourceIntake
from ingest.leases import OwnLeases
from ingest.metrics import Metrics
from ingest.protocols import Leases
from ingest.reconnect import OpenBudget, OwnOpens, ReconnectRules
from ingest.source_health import StreamState
from ingest.sources.sse.rules import StreamRules
from ingest.sources.sse.source import SseRules, SseSource
from ingest.times import elapsed
from tests.support.gated_store import GatedStore, as_sent
from tests.support.recording_coverage import RecordingCoverage
from tests.support.server import PATIENCE_SECONDS

ORIGIN = Origin("tracker", "fleet", "sse")
HASTY = StreamRules(
    overlap=0.05,
    look=0.01,
    token=0.005,
    record=0.02,
    tick=0.01,
    behind=0.01,
    latency=0.0,
    reconnect=ReconnectRules(first=(0.01, 0.03), longest=0.1, limited=(0.2, 0.3), retry=(0.01, 60.0)),
)


def hasty(
    url: str,
    token: Callable[[], str] | None = None,
    *,
    idle: float = 5.0,
    streams: int = 1,
    pause: float = 2.0,
) -> SseRules:
    """Return rules by which everything that waits for upstream waits for hundredths of a second."""
    return SseRules(url, token, idle=idle, streams=streams, connect=2.0, pause=pause, handover=0.01, stream=HASTY)


class Clock:
    """The seconds that pass, and those that a test adds: `clock.ahead += 60` is a minute in which nothing ran."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self.reads = 0

    def __call__(self) -> float:
        """Return the time."""
        self.reads += 1
        return elapsed() + self.ahead


class Token:
    """What a source is let in with; a test changes `text`."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.reads = 0

    def __call__(self) -> str:
        """Return the present one."""
        self.reads += 1
        return self.text


class SseRig:
    """The source `fleet`; `records` is what its store was given."""

    def __init__(self, rules: SseRules, *, max_events: int, budget: OpenBudget, leases: Leases) -> None:
        self.leases = leases
        self.records: list[Record] = []
        self.store = GatedStore(self._keep)
        self.clock = Clock()
        self.coverage = RecordingCoverage(self.clock)
        self.metrics = Metrics(CollectorRegistry())
        self.inbox = Inbox(self.store, self.metrics, max_events=max_events, max_bytes=10**9, patience_seconds=5)
        intake = SourceIntake(self.inbox, self.metrics, "fleet", "sse")
        self.format = ParticleFormat(ORIGIN, ("hook-sent/",))
        self.source = SseSource(
            ORIGIN,
            rules,
            self.format,
            intake,
            self.coverage,
            leases,
            OwnOpens(budget, self.clock),
            self.metrics,
            lambda: datetime.now(UTC),
            self.clock,
        )

    @property
    def names(self) -> list[str]:
        """The names of the events that were committed, in order."""
        return [record.name for record in self.records if isinstance(record, Event)]

    @property
    def numbers(self) -> list[int]:
        """The data of the events that were committed, in order, as numbers."""
        return [int(record.data or b"-1") for record in self.records if isinstance(record, Event)]

    @property
    def has_proven(self) -> bool:
        """Whether the first interval has grown."""
        return any(interval.until > interval.since for interval in self.coverage.intervals[:1])

    @property
    def stream(self) -> StreamState:
        """How the first stream does."""
        return self.source.condition().streams[0]

    def value(self, name: str, **labels: str) -> float | None:
        """A sample of a metric."""
        return self.metrics.registry.get_sample_value(f"headrace_{name}", {"source": "fleet", "mode": "sse"} | labels)

    async def until(self, condition: Callable[[], object], seconds: float = PATIENCE_SECONDS) -> None:
        """Return when the condition holds."""
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110 - states are there to be read
                await asyncio.sleep(0.002)

    async def until_up(self) -> None:
        """Return when the source listens: what comes together with the head of the answer proves nothing."""
        await self.until(lambda: self.source.condition().up)

    async def until_proven(self, say: Callable[[bytes], Awaitable[None]], condition: Callable[[], object]) -> None:
        """Return when the condition holds. Upstream gives signs of life meanwhile: each proves the time before it."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not condition():
                await say(b"\n")
                await asyncio.sleep(0.02)

    async def until_lost(self, cause: str, seconds: float = 10) -> None:
        """Return when the first stream was lost for this cause."""
        await self.until(lambda: self.source.condition().streams and self.stream.lost == cause, seconds)

    async def until_received(self, count: int) -> None:
        """Return when so many records have arrived, settled or not."""
        await self.until(lambda: self.metrics.counts("fleet", "sse")["received"] >= count)

    async def until_read(self, what: Clock | Token) -> None:
        """Return when the source has looked at it so often that it has had the time to do what it does then."""
        before = what.reads
        await self.until(lambda: what.reads > before + 30)

    def _keep(self, records: Sequence[Record]) -> Sequence[Outcome]:
        self.records += records
        return as_sent(records)

    def rejects(self) -> list[Reject]:
        """What was kept as a reject."""
        return [record for record in self.records if isinstance(record, Reject)]


@asynccontextmanager
async def sse_rig(
    rules: SseRules, *, max_events: int = 10_000, budget: OpenBudget | None = None, leases: Leases | None = None
) -> AsyncIterator[SseRig]:
    """A rig that runs."""
    rig = SseRig(rules, max_events=max_events, budget=budget or OpenBudget(), leases=leases or OwnLeases())
    committing = asyncio.create_task(rig.inbox.run())
    running = asyncio.create_task(rig.source.run())
    try:
        yield rig
    finally:
        rig.store.open_gate()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        rig.inbox.close()
        await committing
