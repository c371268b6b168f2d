"""Posts what was committed to the books every few seconds, in short transactions between which ingestion commits."""

from __future__ import annotations

import asyncio
import time

import structlog
from sqlalchemy import Connection

from ingest.errors import StoreUnavailable
from ingest.leases import Lease
from storage.books import BOOKS, checksums, devices, pauses
from storage.books.place import last_position, move_place, take_place
from storage.engine import Database
from storage.transactions import transaction

_STEP_EVENTS = 2048
_EVERY_SECONDS = 2.0

log = structlog.get_logger(__name__)


class Posting:
    """Posts while the lease is this process's. Two at once would do no harm: each waits for the other's step."""

    def __init__(self, database: Database, lease: Lease | None = None, every_seconds: float = _EVERY_SECONDS) -> None:
        self._database = database
        self._lease = lease or Lease(held=True)
        self._every_seconds = every_seconds

    async def run(self) -> None:
        """Post now and again until cancelled."""
        while True:
            await self._lease.acquired()
            try:
                await self.post_all()
            except StoreUnavailable as error:
                log.warning("posting_failed", error=str(error))
            await asyncio.sleep(self._every_seconds)

    async def post_all(self) -> None:
        """Post all that is committed, leaving half of the time to the ingestion. Raises StoreUnavailable."""
        while True:
            started = time.monotonic()
            if not await self._database.write(post_some):
                return
            await asyncio.sleep(time.monotonic() - started)


@transaction
def post_some(connection: Connection) -> int:
    """Post the next events; return how many positions that were."""
    after = take_place(connection, BOOKS)
    end = min(last_position(connection), after + _STEP_EVENTS)
    if end <= after:  # all is posted; or the head was put back, and the place with it
        return 0
    checksums.post(connection, after, end)
    devices.post(connection, after, end)
    pauses.post(connection, after, end)
    move_place(connection, BOOKS, end)
    return end - after
