"""How large the store is, what room its disk has left, and how far behind the retention is. Nothing scans a table."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple, Protocol

from sqlalchemy import Connection

from ingest.coverage import Gap
from ingest.errors import StoreUnavailable
from ingest.leases import Lease
from ingest.metrics import Metrics
from storage.engine import Database
from storage.gaps import SourceKey, open_gaps
from storage.retention import Retention
from storage.silence_gauges import SilenceGauges


class _Size(NamedTuple):
    """Bytes: of the store, and of what is free on its disk; None where that is PostgreSQL's business."""

    used: int
    free: int | None


class FollowGaps(Protocol):
    """Is told which gaps last, and whether to show them."""

    def __call__(self, lasting: Iterable[tuple[SourceKey, Gap]], *, shown: bool) -> None:
        """Go by these."""
        ...


class StoreGauges:
    """Measures every `every_seconds`. While the store is away it shows what was last known.

    What is the same for all processes on a store is shown by the one that holds `lease`, and absent elsewhere.
    """

    def __init__(
        self,
        database: Database,
        retention: Retention | None,
        metrics: Metrics,
        *,
        lease: Lease | None = None,
        follow_gaps: FollowGaps | None = None,
        silence: SilenceGauges | None = None,
        every_seconds: float = 15.0,
    ) -> None:
        self._database = database
        self._retention = retention
        self._metrics = metrics
        self._lease = lease or Lease(held=True)
        self._follow_gaps = follow_gaps
        self._silence = silence
        self._every_seconds = every_seconds
        self._shown = True

    async def run(self) -> None:
        """Measure now and again until cancelled, and as soon as the lease comes or goes."""
        while True:
            held = self._lease.held
            with suppress(StoreUnavailable):
                await self.measure()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._every_seconds):
                    await (self._lease.lost() if held else self._lease.acquired())

    async def measure(self) -> None:
        """Set the gauges, or take them away. Raises StoreUnavailable."""
        self._show(self._lease.held)
        if self._database.dialect != "sqlite" and self._follow_gaps is not None:  # there this process knows them all
            self._follow_gaps((await self._database.read(open_gaps)).items(), shown=self._lease.held)
        if self._silence is not None:
            await self._silence.measure(shown=self._lease.held)
        if not self._lease.held:
            return
        size = await self._database.read(_size)
        self._metrics.store_bytes.set(size.used)
        if size.free is not None:
            self._metrics.free_bytes.set(size.free)
        if self._retention is not None:
            self._metrics.retention_lag.set(await self._retention.lag_seconds())

    def _show(self, shown: bool) -> None:
        if shown is not self._shown:
            self._shown = shown
            change = self._metrics.registry.register if shown else self._metrics.registry.unregister
            for gauge in (self._metrics.store_bytes, self._metrics.retention_lag):
                change(gauge)


def _size(connection: Connection) -> _Size:
    if connection.dialect.name != "sqlite":
        used = connection.exec_driver_sql("SELECT pg_database_size(current_database())").scalar_one()
        return _Size(used, None)
    file = connection.exec_driver_sql("SELECT file FROM pragma_database_list WHERE name = 'main'").scalar_one()
    return _Size(_bytes_of(file) + _bytes_of(f"{file}-wal"), shutil.disk_usage(os.path.dirname(file)).free)


def _bytes_of(file: str) -> int:
    try:
        return os.stat(file).st_size
    except OSError:  # the log is gone after the last connection
        return 0
