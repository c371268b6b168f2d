"""Looks after PostgreSQL's partitions: makes the next ones, and gives those that are full an index by device."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime

import structlog

from ingest.errors import StoreUnavailable
from ingest.leases import Lease
from storage import by_device, partitions
from storage.engine import Database
from storage.rows import to_micros

_EVERY_SECONDS = 60.0

log = structlog.get_logger(__name__)


class PartitionCare:
    """Looks every `every_seconds` while the lease is this process's. SQLite has no partitions."""

    def __init__(
        self,
        database: Database,
        clock: Callable[[], datetime],
        lease: Lease | None = None,
        every_seconds: float = _EVERY_SECONDS,
    ) -> None:
        self._database = database
        self._clock = clock
        self._lease = lease or Lease(held=True)
        self._every_seconds = every_seconds

    async def run(self) -> None:
        """Look after them now and again until cancelled."""
        while self._database.dialect == "postgresql":
            await self._lease.acquired()
            try:
                await self.look_after()
            except StoreUnavailable as error:
                log.warning("partitions_not_looked_after", error=str(error))
            await asyncio.sleep(self._every_seconds)

    async def look_after(self) -> None:
        """Make what is missing now. Raises StoreUnavailable."""
        await self._database.write(partitions.make_ahead, to_micros(self._clock()))
        for full in await self._database.read(by_device.lacking):
            await self._database.alter(by_device.add_index, full)
