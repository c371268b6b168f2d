"""How large the store is, what room its disk has left, and how far behind the retention is. Nothing scans a table."""

from __future__ import annotations

import asyncio
import os
import shutil
from contextlib import suppress
from typing import NamedTuple

from sqlalchemy import Connection

from ingest.errors import StoreUnavailable
from ingest.metrics import Metrics
from storage.engine import Database
from storage.retention import Retention


class _Size(NamedTuple):
    """Bytes: of the store, and of what is free on its disk; None where that is PostgreSQL's business."""

    used: int
    free: int | None


class StoreGauges:
    """Measures every `every_seconds`. While the store is away it shows what was last known."""

    def __init__(
        self, database: Database, retention: Retention | None, metrics: Metrics, every_seconds: float = 15.0
    ) -> None:
        self._database = database
        self._retention = retention
        self._metrics = metrics
        self._every_seconds = every_seconds

    async def run(self) -> None:
        """Measure now and again until cancelled."""
        while True:
            with suppress(StoreUnavailable):
                await self.measure()
            await asyncio.sleep(self._every_seconds)

    async def measure(self) -> None:
        """Set the gauges. Raises StoreUnavailable."""
        size = await self._database.read(_size)
        self._metrics.store_bytes.set(size.used)
        if size.free is not None:
            self._metrics.free_bytes.set(size.free)
        if self._retention is not None:
            self._metrics.retention_lag.set(await self._retention.lag_seconds())


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
