"""One Auditor in all replicas: takes its cursor, waits for whoever has it, begins again after a fault."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from random import Random

import structlog

from app.auditor.auditor_metrics import AuditorMetrics
from app.auditor.followed_sources import FollowedSources
from app.auditor.session import AuditLimits, AuditSession
from ingest.errors import LeaseLost, StoreFault, StoreRewound, StoreUnavailable
from ingest.metrics import Metrics
from ingest.protocols import Feed
from ingest.retrying import Backoff, Pauses, wait_at_most
from storage.cursors import SqlCursors
from storage.database import Database
from storage.sequences import AUDITOR

_STANDBY_SECONDS = 2.0
_OUTAGE = Backoff(first=0.2, longest=5.0)
_SETBACK = Backoff(first=0.2, longest=60.0)

log = structlog.get_logger(__name__)


class Auditor:
    """Follows the counters of the devices of `sources`. `holder` names this process; `clock` gives aware UTC times."""

    def __init__(
        self,
        sources: FollowedSources,
        feed: Feed,
        cursors: SqlCursors,
        database: Database,
        metrics: Metrics,
        *,
        holder: str,
        clock: Callable[[], datetime],
        random: Random,
        limits: AuditLimits | None = None,
    ) -> None:
        self._sources = sources
        self._feed = feed
        self._cursors = cursors
        self._database = database
        self._metrics = AuditorMetrics(metrics)
        self._holder = holder
        self._clock = clock
        self._random = random
        self._limits = limits or AuditLimits()
        self._stopping = asyncio.Event()
        self._outages = Pauses(_OUTAGE, random.uniform)
        self._setbacks = Pauses(_SETBACK, random.uniform)

    async def run(self) -> None:
        """Follow until stopped; cancelling is like a crash: what was not saved is followed once more."""
        while self._sources and not self._stopping.is_set():
            pauses = self._outages
            try:
                await self._serve()
                continue
            except LeaseLost:
                log.warning("lease_lost", handler=AUDITOR)
            except StoreRewound as error:
                log.warning("auditor_rewound", error=str(error))
            except StoreFault as error:
                log.error("auditor_cannot_save", error=str(error))
                pauses = self._setbacks
            except StoreUnavailable as error:
                log.warning("store_unavailable", handler=AUDITOR, error=str(error))
            except Exception:  # handlers and the ingestion go on; the Auditor begins again at its cursor
                log.exception("auditor_interrupted")
                pauses = self._setbacks
            finally:
                self._metrics.stand_down()
            await wait_at_most(self._stopping, pauses.next_seconds())

    def stop(self) -> None:
        """Save what was found, and return from `run`."""
        self._stopping.set()

    async def _serve(self) -> None:
        cursor = await self._cursors.acquire(AUDITOR, holder=self._holder, begin="beginning")
        if cursor is None:
            await wait_at_most(self._stopping, self._random.uniform(_STANDBY_SECONDS / 2, _STANDBY_SECONDS))
            return
        session = AuditSession(
            cursor, self._feed, self._database, self._sources, self._metrics, self._clock, self._limits
        )
        began_at = cursor.position
        try:
            await session.run(self._stopping)
        finally:
            self._outages.reset()
            if cursor.position > began_at:
                self._setbacks.reset()
