"""A Pub/Sub source on a real SQLite store, pulling from the emulator through a proxy that sees and disturbs it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from ingest.event import Origin
from ingest.formats.particle import ParticleFormat
from ingest.inbox import Inbox
from ingest.intake import SourceIntake
from ingest.metrics import Metrics
from ingest.protocols import MessageFormat, Store
from ingest.reconnect import ReconnectRules
from ingest.source_health import StreamState
from ingest.sources.pubsub.pull import PullRules
from ingest.sources.pubsub.source import PubsubSource
from storage.engine import open_database
from storage.migrate import migrate
from storage.store import SqlStore
from tests.support.emulator import Published, Queue, new_queue, session_emulator
from tests.support.gated_database import GatedDatabase
from tests.support.pubsub_proxy import PubsubProxy, pubsub_proxy
from tests.support.stored import rows

ORIGIN = Origin("tracker", "fleet", "pubsub")
HASTY = ReconnectRules(first=(0.01, 0.03), longest=0.1, limited=(0.2, 0.3))
PUBLISHED = "2026-07-28T16:53:05.616Z"
USUAL = {"event": "temp", "device_id": "dev1", "published_at": PUBLISHED}


class PubsubRig:
    """The source `fleet` with everything behind and before it."""

    def __init__(
        self,
        queue: Queue,
        proxy: PubsubProxy,
        database: GatedDatabase,
        rules: PullRules,
        *,
        streams: int,
        max_events: int,
        max_bytes: int,
        format_: MessageFormat,
        spoil: Callable[[Store], Store],
    ) -> None:
        self.queue = queue
        self.proxy = proxy
        self.database = database
        self.metrics = Metrics(CollectorRegistry())
        self.inbox = Inbox(
            spoil(SqlStore(database, _now)),
            self.metrics,
            max_events=max_events,
            max_bytes=max_bytes,
            patience_seconds=5,
        )
        self._format = format_
        self._rules = rules
        self._intake = SourceIntake(self.inbox, self.metrics, "fleet", "pubsub")
        self.source = self.another_source(streams)
        self.committing = asyncio.create_task(self.inbox.run())
        self.running = asyncio.create_task(self.source.run())

    def another_source(self, streams: int = 1) -> PubsubSource:
        """The same source once more, as a process that starts again has it; not running."""
        return PubsubSource(ORIGIN, self._rules, streams, self._format, self._intake, self.metrics, _now)

    async def publish(self, *messages: Published) -> list[str]:
        """Publish at once; the ids that the queue gave the messages."""
        return await asyncio.to_thread(self.queue.publish, messages)

    async def until(self, condition: Callable[[], object], seconds: float = 20) -> None:
        """Return when the condition holds."""
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110 - states are there to be read
                await asyncio.sleep(0.005)

    async def until_up(self) -> None:
        """Return when the source can receive."""
        await self.until(lambda: self.source.condition().up)

    async def until_acknowledged(self, messages: Iterable[str]) -> None:
        """Return when the emulator was told that these message ids are done."""
        awaited = set(messages)
        await self.until(lambda: awaited <= set(self.proxy.acknowledged))

    async def until_flowing(self) -> None:
        """Return when one of the messages that are published now and now is acknowledged.

        The first goes to a stream that is over, as the emulator does not know of it: it comes again in ten seconds.
        """
        fresh: set[str] = set()
        async with asyncio.timeout(20):
            while not fresh & self.proxy.acknowledged.keys():
                fresh.update(await self.publish(a_message(f"fresh/{len(fresh)}")))
                await asyncio.sleep(0.1)

    async def until_received(self, count: int) -> None:
        """Return when so many messages have arrived, settled or not."""
        await self.until(lambda: self.counts()["received"] >= count)

    async def names(self) -> list[str]:
        """The names of the stored events, in order."""
        return [row[0] for row in await rows(self.database, "SELECT name FROM events ORDER BY position")]

    async def rejects(self) -> list[tuple[str, bytes]]:
        """Reason and bytes of each reject."""
        found = await rows(self.database, "SELECT reason, body FROM rejects ORDER BY id")
        return [(reason, bytes(body)) for reason, body in found]

    @property
    def stream(self) -> StreamState:
        """How the first stream does."""
        return self.source.condition().streams[0]

    def counts(self) -> dict[str, int]:
        """What was counted."""
        return self.metrics.counts("fleet", "pubsub")

    def value(self, name: str, **labels: str) -> float | None:
        """A sample of a metric; `labels` are those behind `source`."""
        return self.metrics.registry.get_sample_value(f"headrace_{name}", {"source": "fleet"} | labels)

    def reconnects(self) -> dict[str, float]:
        """How often the stream was opened anew, by cause, without zeros."""
        return {
            sample.labels["cause"]: sample.value
            for metric in self.metrics.reconnects.collect()
            for sample in metric.samples
            if sample.value
        }

    async def stop(self) -> None:
        """What `serve` does when it stops, in its order."""
        await self.source.pause()
        self.inbox.close()
        await self.committing
        self.running.cancel()
        await asyncio.gather(self.running, return_exceptions=True)


def a_message(name: str = "temp", data: bytes = b"21.5", **attributes: str) -> Published:
    """What Particle's integration publishes; further `attributes` stand beside the usual ones, or in their place."""
    return data, USUAL | {"event": name} | attributes


@asynccontextmanager
async def pubsub_rig(
    folder: Path,
    *,
    streams: int = 1,
    max_events: int = 12_000,
    max_bytes: int = 10**9,
    format_: MessageFormat | None = None,
    spoil: Callable[[Store], Store] = lambda store: store,
    subscribed: bool = True,
    before: Callable[[PubsubProxy], None] = lambda proxy: None,
    **rules: Any,
) -> AsyncIterator[PubsubRig]:
    """A source that runs. `rules`: fields of PullRules. `before`: what is done to the proxy first.

    Without `subscribed` the subscription does not exist yet.
    """
    emulator = await asyncio.to_thread(session_emulator)
    queue = await asyncio.to_thread(new_queue, emulator.host)
    if not subscribed:
        queue = replace(queue, subscription=f"{queue.subscription}-later")
    database = GatedDatabase(open_database(f"sqlite:///{folder}/test.db"))
    await migrate(database)
    with pubsub_proxy(emulator.host) as proxy, proxy.as_emulator():
        before(proxy)
        rig = PubsubRig(
            queue,
            proxy,
            database,
            replace(
                PullRules(queue.subscription, drain_timeout=3.0, accepted=0.05, close=0.5, reconnect=HASTY), **rules
            ),
            streams=streams,
            max_events=max_events,
            max_bytes=max_bytes,
            format_=format_ or ParticleFormat(ORIGIN, ("hook-sent/",)),
            spoil=spoil,
        )
        try:
            yield rig
        finally:
            database.open_gate()
            proxy.release_acknowledgements()
            await rig.stop()
    await database.close()


def _now() -> datetime:
    return datetime.now(UTC)
