"""The Auditor's work while it holds its cursor: read, follow, save; call lost what is due when all was read.

Nothing is told before it is saved, and all of a save is one fenced transaction: a crash between two steps, or another
process that takes over, comes to the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from app.auditor.auditor_metrics import AuditorMetrics
from app.auditor.findings import Findings, Number
from app.auditor.followed_sources import FollowedSources
from app.auditor.spare_time import SpareTime
from ingest.deliveries import LEASE_SECONDS, Seen
from ingest.errors import StoreFault, StoreUnavailable
from ingest.event import Event
from ingest.protocols import Feed
from ingest.retrying import wait_at_most
from storage.cursors import SqlCursor
from storage.database import Database
from storage.head import head_position
from storage.rows import to_micros
from storage.sequences import due, known, states_of

_RENEW_SECONDS = LEASE_SECONDS / 3
_EVENTS_IN_A_ROW = 50  # a millisecond of work, between which the ingestion goes on
_EVENTS_IN_MEMORY = 5_000  # the feed remembers more; what it has forgotten costs twice as much to read


@dataclass(frozen=True, slots=True)
class AuditLimits:
    """Bounds of what is in hand: it is saved after `save_devices` or `save_seconds`, whichever comes first.

    Each save writes a row for each device that was heard: the longer it waits, the fewer it writes. What is missing is
    lost when it was due `margin_seconds` ago, for an event may be on its way into the store; `due_devices` at a time.
    A save that fails is tried once more, `again_seconds` later.
    """

    read_events: int = 1_000
    save_devices: int = 20_000
    save_seconds: float = 1.0
    margin_seconds: float = 1.0
    due_devices: int = 1_000
    again_seconds: float = 0.5


class AuditSession:
    """Follows what is behind `cursor`."""

    def __init__(
        self,
        cursor: SqlCursor,
        feed: Feed,
        database: Database,
        sources: FollowedSources,
        metrics: AuditorMetrics,
        clock: Callable[[], datetime],
        limits: AuditLimits,
    ) -> None:
        self._cursor = cursor
        self._feed = feed
        self._database = database
        self._sources = sources
        self._metrics = metrics
        self._clock = clock
        self._limits = limits
        self._position = cursor.position
        self._seen: Seen | None = None
        self._unsaved = self._saved = 0  # events
        self._spare_time = SpareTime()
        self._time = asyncio.get_running_loop().time
        self._saved_at = self._time()
        self._findings = Findings(sources, 1, complete=True)

    async def run(self, stopping: asyncio.Event) -> None:
        """Work until stopped. Raises StoreUnavailable, LeaseLost and StoreRewound, having told nothing unsaved."""
        await self.begin()
        while not stopping.is_set():
            if await self.step():
                await wait_at_most(stopping, self._saved_at + self._pause_seconds() - self._time())
        await self._save()
        await self._cursor.release()

    def _pause_seconds(self) -> float:
        """Return how long after a save more is to be read: while the feed remembers it."""
        return self._limits.save_seconds * min(1, _EVENTS_IN_MEMORY / max(1, self._saved))

    async def begin(self) -> None:
        """Read what the store knows."""
        found = await self._database.read(known)
        self._findings = Findings(self._sources, found.next_id, complete=found.complete)
        self._metrics.begin(found.missing)

    async def step(self) -> bool:
        """Follow what can be read at once; return whether that was all, and all is saved."""
        now = self._clock()
        events = await self._feed.read(self._position, self._limits.read_events)
        if events:
            await self._follow(events)
            if self._is_full():
                await self._save()
            await self._spare_time.rest()
            return False
        if self._unsaved:
            await self._save()
        is_end = await self._expire(to_micros(now) - round(self._limits.margin_seconds * 1_000_000))
        if not is_end or self._time() >= self._saved_at + _RENEW_SECONDS:
            await self._save()
        return is_end

    async def _expire(self, before: int) -> bool:
        """Call lost what was due; return whether nothing was. All that was committed by then has been read."""
        devices = await self._database.read(due, before, self._limits.due_devices)
        await self._load(devices)
        self._findings.expire(devices, before)
        return not devices

    async def _follow(self, events: Sequence[Event]) -> None:
        last = events[-1]
        if (last.position or 0) - self._position != len(events):
            self._findings.forget()
        numbers: list[Number] = []
        self._spare_time.begin()
        for start in range(0, len(events), _EVENTS_IN_A_ROW):
            numbers += self._findings.read(events[start : start + _EVENTS_IN_A_ROW])
            await self._spare_time.give_way()
        await self._load([(seen.product, seen.device) for seen, _ in numbers])
        self._spare_time.begin()
        for start in range(0, len(numbers), _EVENTS_IN_A_ROW):
            self._findings.observe(numbers[start : start + _EVENTS_IN_A_ROW])
            await self._spare_time.give_way()
        self._position = last.position or 0
        self._seen = Seen(self._position, last.id)
        self._unsaved += len(events)

    async def _load(self, devices: Sequence[tuple[str, str]]) -> None:
        keys = self._findings.unknown(devices)
        if keys:
            self._findings.take_states(keys, await self._database.read(states_of, keys))

    def _is_full(self) -> bool:
        return self._findings.devices >= self._limits.save_devices or (
            self._unsaved > 0 and self._time() >= self._saved_at + self._limits.save_seconds
        )

    async def _save(self) -> None:
        findings, asked_at = self._findings, self._time()
        followed = findings.followed()
        try:
            await self._cursor.advance(self._position, seen=self._seen, followed=followed)
        except StoreFault:
            raise
        except StoreUnavailable:  # where only the answer was lost, this counts what was written
            await asyncio.sleep(self._limits.again_seconds)
            await self._cursor.advance(self._position, seen=self._seen, followed=followed)
        self._saved_at, self._saved, self._unsaved = asked_at, self._unsaved, 0
        self._findings = findings.after_save()
        if followed.forget:
            self._metrics.begin({})
        self._metrics.count(findings.changes)
        self._metrics.show_lag(max(0, await self._database.read(head_position) - self._position))
