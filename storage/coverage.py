"""When each stream of a source was listening, as intervals by the database's clock."""

from __future__ import annotations

from sqlalchemy import Connection, insert, update

from ingest.event import Origin
from storage.clock import database_now
from storage.engine import Database
from storage.tables import coverage


class SqlCoverage:
    """ports.Coverage."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def open(self, origin: Origin, stream: int) -> int:
        """See ports.Coverage."""
        return await self._database.write(_open, origin, stream)

    async def extend(self, interval: int) -> None:
        """See ports.Coverage."""
        await self._database.write(_extend, interval)


def _open(connection: Connection, origin: Origin, stream: int) -> int:
    now = database_now(connection)
    row = {"source": origin.source, "mode": origin.mode.value, "stream": stream, "since": now, "until": now}
    return int(connection.execute(insert(coverage).values(row).returning(coverage.c.id)).scalar_one())


def _extend(connection: Connection, interval: int) -> None:
    connection.execute(update(coverage).where(coverage.c.id == interval).values(until=database_now(connection)))
