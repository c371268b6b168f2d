"""What one process does for all on a store: forget what is too old, keep the books, see that they balance, show it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from random import Random
from typing import Protocol

from app.auditor import FollowedSources
from app.compared_sources import SeenBy, compared_sources
from app.settings import Settings
from app.silences import silences_of
from ingest.counted_coverage import CountedCoverage
from ingest.coverage import Gap
from ingest.leases import BALANCE, BOOKS, PARTITIONS, RETENTION, STORE_GAUGES
from ingest.metrics import Metrics
from ingest.protocols import Leases
from storage.books.comparison import Comparison
from storage.books.posting import Posting
from storage.engine import Database
from storage.folding import Folding
from storage.gaps import SourceKey
from storage.partition_care import PartitionCare
from storage.removed_modes import RemovedModes
from storage.retention import Retention
from storage.sequences import AUDITOR
from storage.silence_gauges import SilenceGauges
from storage.store_gauges import StoreGauges
from storage.verify.balance import Balance


class Duty(Protocol):
    """Something to be done now and again."""

    async def run(self) -> None:
        """Do it until cancelled."""
        ...


class Duties:
    """Retention, the books and the gauges of the store, each under a lease; and what any process may do at any time."""

    def __init__(
        self,
        settings: Settings,
        followed: FollowedSources,
        database: Database,
        leases: Leases,
        metrics: Metrics,
        coverage: CountedCoverage,
        clock: Callable[[], datetime],
    ) -> None:
        configured = [SourceKey(label, mode) for label, source in settings.sources.items() for mode in source.modes]
        retention = None
        if settings.store.retention is not None:
            retention = Retention(
                database,
                settings.store.retention,
                (*settings.handlers, *([AUDITOR] if followed else [])),
                clock,
                count_skipped=lambda handler, count: metrics.skipped.labels(handler).inc(count),
                lease=leases.lease(RETENTION),
            )
        compared = compared_sources(settings.sources)
        count_seen = SeenBy(metrics, compared).count
        by_chance = Random()  # noqa: S311 - which blocks are read again is no secret

        def count_suspected(key: SourceKey, gap: Gap) -> None:
            if key.source in settings.sources:
                metrics.suspected_lost.labels(key.source).inc(gap.suspected)

        self._removed_modes = RemovedModes(database, configured, count_suspected)
        lease, follow_gaps = leases.lease(STORE_GAUGES), coverage.follow
        silence = SilenceGauges(database, metrics, [*settings.sources], silences_of(settings.sources, clock))
        self._duties: list[Duty] = [
            *([retention] if retention else []),
            self._removed_modes,
            Folding(database, clock),
            PartitionCare(database, clock, leases.lease(PARTITIONS)),
            Posting(database, leases.lease(BOOKS)),
            Comparison(database, compared, clock, count_seen, leases.lease(BOOKS)),
            Balance(database, metrics, configured, by_chance, lease=leases.lease(BALANCE)),
            StoreGauges(database, retention, metrics, lease=lease, follow_gaps=follow_gaps, silence=silence),
        ]

    async def begin(self) -> None:
        """End the gaps of modes that are gone, before what lasts is shown. Raises StoreUnavailable."""
        await self._removed_modes.end_all()

    async def run(self) -> None:
        """Run until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for duty in self._duties:
                tasks.create_task(duty.run())
