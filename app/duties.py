"""What one process does for all on a store: it forgets what is too old, and shows how the store does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime

from app.settings import Settings
from ingest.counted_coverage import CountedCoverage
from ingest.leases import RETENTION, STORE_GAUGES
from ingest.metrics import Metrics
from ingest.protocols import Leases
from storage.engine import Database
from storage.folding import Folding
from storage.retention import Retention
from storage.store_gauges import StoreGauges


class Duties:
    """Retention and the gauges of the store, each under a lease; and folding, which any process may do."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        leases: Leases,
        metrics: Metrics,
        coverage: CountedCoverage,
        clock: Callable[[], datetime],
    ) -> None:
        self._retention = None
        if settings.store.retention is not None:
            self._retention = Retention(
                database,
                settings.store.retention,
                tuple(settings.handlers),
                clock,
                count_skipped=lambda handler, count: metrics.skipped.labels(handler).inc(count),
                lease=leases.lease(RETENTION),
            )
        self._folding = Folding(database, clock)
        lease = leases.lease(STORE_GAUGES)
        self._gauges = StoreGauges(database, self._retention, metrics, lease=lease, follow_gaps=coverage.follow)

    async def run(self) -> None:
        """Run until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._gauges.run())
            tasks.create_task(self._folding.run())
            if self._retention is not None:
                tasks.create_task(self._retention.run())
