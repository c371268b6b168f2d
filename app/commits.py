"""What takes a process's commits: the store, watched, and in front of it a spool where one is configured."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from ingest.intake_metrics import IntakeAccounts
from ingest.metrics import Metrics
from ingest.protocols import Store
from storage.engine import Database
from storage.health import WatchedStore
from storage.migrate import require_newest
from storage.rewinds import Rewinds
from storage.spool import SpooledStore, SpoolState
from storage.spool_file import SpoolFile
from storage.store import SqlStore


class Commits:
    """The store as the inbox sees it, and what has to run beside it.

    `accounts` settle what a spool took when its fate is known.
    """

    def __init__(
        self, spool: Path | None, database: Database, rewinds: Rewinds, metrics: Metrics, clock: Callable[[], datetime]
    ) -> None:
        self.accounts = IntakeAccounts(metrics)
        self._watched = WatchedStore(SqlStore(database, clock, rewinds), database)
        self._spool: SpooledStore | None = None
        if spool is not None:
            self._spool = SpooledStore(
                lambda: SqlStore(database, clock, rewinds),
                SpoolFile(spool),
                self.accounts,
                clock,
                watched=self._watched.watched,
                prepare=lambda: require_newest(database),  # nothing is given to PostgreSQL before its schema was seen
            )
            self._spool.show(metrics)

    @property
    def store(self) -> Store:
        """Return what the inbox commits to."""
        return self._spool or self._watched

    @property
    def has_spool(self) -> bool:
        """Return whether events are taken while PostgreSQL is away."""
        return self._spool is not None

    def fault(self) -> str | None:
        """Return why nothing can be stored; None where something can, as far as is known."""
        return (self._spool or self._watched).fault()

    def waiting(self) -> SpoolState | None:
        """Return what waits in the spool; None where there is none."""
        return None if self._spool is None else self._spool.state()

    async def open(self) -> None:
        """Take up what an earlier process left in the spool. Raises ConfigurationError, StoreUnavailable."""
        if self._spool is not None:
            await self._spool.open()

    async def run(self) -> None:
        """Watch the store, and drain the spool, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watched.run())
            if self._spool is not None:
                tasks.create_task(self._spool.run())

    async def drained(self) -> None:
        """Return when the spool is empty, or will not be soon."""
        if self._spool is not None:
            await self._spool.drained()

    async def close(self) -> None:
        """Close the spool."""
        if self._spool is not None:
            await self._spool.close()
