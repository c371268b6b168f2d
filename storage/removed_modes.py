"""Gaps of modes that the configuration does not name any more: nobody will listen there again, so they end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import NamedTuple

import structlog
from sqlalchemy import Connection

from ingest.coverage import Gap
from ingest.errors import StoreUnavailable
from ingest.event import Cause
from ingest.times import rfc3339
from storage.clock import database_now
from storage.engine import Database
from storage.gaps import SourceKey, close_gaps, open_gaps
from storage.transactions import transaction

_EVERY_SECONDS = 60.0

log = structlog.get_logger(__name__)


class Removed(NamedTuple):
    """A gap that ended because its mode is gone."""

    key: SourceKey
    gap: Gap


class RemovedModes:
    """Ends them when the process starts, and those that a replica with the older configuration leaves as it stops.

    All processes on one store run one configuration, but for the time of a rolling restart. `ended` is told of each.
    """

    def __init__(
        self, database: Database, configured: Collection[SourceKey], ended: Callable[[SourceKey, Gap], None]
    ) -> None:
        self._database = database
        self._configured = tuple(configured)
        self._ended = ended

    async def end_all(self) -> None:
        """End what earlier processes left open. Raises StoreUnavailable."""
        await self._end(stopped_only=False)

    async def run(self, every: float = _EVERY_SECONDS) -> None:
        """End what replicas leave that stop, until cancelled."""
        while True:
            await asyncio.sleep(every)
            try:
                await self._end(stopped_only=True)
            except StoreUnavailable as error:
                log.warning("removed_modes_not_ended", error=str(error))

    async def _end(self, *, stopped_only: bool) -> None:
        for key, gap in await self._database.write(end_removed, self._configured, stopped_only):
            log.info(
                "gap_ended",
                source=key.source,
                mode=key.mode,
                cause=gap.cause.value,
                since=rfc3339(gap.since),
                because="the configuration has no such mode any more",
            )
            self._ended(key, gap)


@transaction
def end_removed(connection: Connection, configured: tuple[SourceKey, ...], stopped_only: bool) -> list[Removed]:
    """End the gaps that last of other modes than these; `stopped_only`: those that an orderly stop began."""
    now = database_now(connection)
    return [
        Removed(key, gap)
        for key, lasting in open_gaps(connection).items()
        if key not in configured and (lasting.cause is Cause.STOPPED or not stopped_only)
        for gap in close_gaps(connection, key, now)
    ]
