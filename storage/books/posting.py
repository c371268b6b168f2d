"""Posts what was committed to the books every few seconds, in short transactions between which ingestion commits."""

from __future__ import annotations

import asyncio

import structlog
from sqlalchemy import Connection

from ingest.errors import StoreUnavailable
from ingest.leases import Lease
from storage.books import BOOKS, checksums, devices, pauses
from storage.books.place import move_place, take_place
from storage.engine import Database
from storage.gently import write_gently
from storage.head import head_position
from storage.transactions import transaction

# A step takes about ten milliseconds of SQLite's only writer, and leaves it nine tenths of the time: books that wait
# for a flood to end are better than one that waits for the books.
STEP_EVENTS = 256
REST = 9.0
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
        """Post all that is committed. Raises StoreUnavailable."""
        while await write_gently(self._database, REST, post_some):
            pass


@transaction
def post_some(connection: Connection) -> int:
    """Post the next events; return how many positions that were."""
    after = take_place(connection, BOOKS)
    end = min(head_position(connection), after + STEP_EVENTS)
    if end <= after:  # all is posted; or the head was put back, and the place with it
        return 0
    checksums.post(connection, after, end)
    devices.post(connection, after, end)
    pauses.post(connection, after, end)
    move_place(connection, BOOKS, end)
    return end - after
