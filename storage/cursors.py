"""Handlers' cursors: lease, fence and position are one row, and what a handler does to its rows is one transaction.

Nothing outlives a transaction: no session lock, no notification, so a pooler in transaction mode may stand between.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from sqlalchemy import Connection, bindparam, or_, select, true, update
from sqlalchemy.sql import ColumnElement

from ingest.errors import LeaseLost
from ingest.event import Event
from ingest.ports import LEASE_SECONDS, Parked, Standing
from storage import bulk, deliveries
from storage.clock import database_now
from storage.engine import Database
from storage.tables import cursors, head

_LEASE = LEASE_SECONDS * 1_000_000
_NEW_CURSOR = ("handler", "position", "epoch")
_ADVANCE = (
    update(cursors)
    .where(cursors.c.handler == bindparam("whose"), cursors.c.epoch == bindparam("held"))
    .values(position=bindparam("to"), expires_at=bindparam("until"))
)
_RELEASE = (
    update(cursors)
    .where(cursors.c.handler == bindparam("whose"), cursors.c.epoch == bindparam("held"))
    .values(holder=None, expires_at=None)
)


class SqlCursors:
    """ports.Cursors on SQLite or PostgreSQL; redriving needs no lease."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._taken: set[str] = set()

    async def acquire(self, handler: str, *, holder: str, begin: Literal["now", "beginning"]) -> SqlCursor | None:
        """See ports.Cursors.

        On SQLite there is one process, and one that was killed must not be waited for: the first time, the cursor is
        taken from whoever has it. A second time would be two living processes robbing each other by turns.
        """
        by_force = self._database.dialect == "sqlite" and handler not in self._taken
        leased = await self._database.write(_acquire, handler, holder, begin, by_force)
        if leased is None:
            return None
        self._taken.add(handler)
        epoch, position = leased
        return SqlCursor(self._database, handler, epoch, position)

    async def redrive(self, handler: str, positions: Sequence[int] | None = None) -> int:
        """Give dead letters back to the handler, all or those at `positions`; return how many."""
        return await self._database.write(deliveries.redrive, handler, positions)


class SqlCursor:
    """ports.Cursor, as long as its epoch is the row's."""

    def __init__(self, database: Database, handler: str, epoch: int, position: int) -> None:
        self._database = database
        self._handler = handler
        self._epoch = epoch
        self._position = position

    @property
    def position(self) -> int:
        """See ports.Cursor."""
        return self._position

    async def advance(self, position: int, parked: Sequence[Parked] = (), delivered: Sequence[int] = ()) -> None:
        """See ports.Cursor."""
        await self._database.write(_advance, self._handler, self._epoch, position, parked, delivered)
        self._position = position

    async def due(self, now: datetime, limit: int, *, by_device: bool) -> Sequence[tuple[Parked, Event]]:
        """See ports.Cursor."""
        return await self._database.read(deliveries.due, self._handler, now, limit, by_device=by_device)

    async def behind(self, device: str, limit: int) -> Sequence[tuple[Parked, Event]]:
        """See ports.Cursor."""
        return await self._database.read(deliveries.behind, self._handler, device, limit)

    async def waiting_devices(self) -> Sequence[str]:
        """See ports.Cursor."""
        return await self._database.read(deliveries.waiting_devices, self._handler)

    async def standing(self) -> Standing:
        """See ports.Cursor."""
        found = await self._database.read(deliveries.standing, self._handler)
        if found is None:
            raise LeaseLost(f"the cursor of {self._handler} is gone")
        return found

    async def release(self) -> None:
        """See ports.Cursor."""
        await self._database.write(_release, self._handler, self._epoch)


def _acquire(connection: Connection, handler: str, holder: str, begin: str, by_force: bool) -> tuple[int, int] | None:
    """The epoch and position of the lease; None where another has it."""
    position = connection.execute(select(head.c.position)).scalar_one() if begin == "now" else 0
    bulk.insert(connection, cursors, _NEW_CURSOR, [(handler, position, 0)], "ON CONFLICT (handler) DO NOTHING")
    now = database_now(connection)
    ours = (
        update(cursors)
        .where(cursors.c.handler == handler, true() if by_force else _free(holder, now))
        .values(holder=holder, epoch=cursors.c.epoch + 1, expires_at=now + _LEASE)
        .returning(cursors.c.epoch, cursors.c.position)
    )
    row = connection.execute(ours).one_or_none()
    return None if row is None else (row.epoch, row.position)


def _free(holder: str, now: int) -> ColumnElement[bool]:
    return or_(cursors.c.holder.is_(None), cursors.c.holder == holder, cursors.c.expires_at < now)


def _advance(
    connection: Connection,
    handler: str,
    epoch: int,
    position: int,
    parked: Sequence[Parked],
    delivered: Sequence[int],
) -> None:
    """The fence comes first: its row lock makes whoever wants to take over wait, and its miss undoes nothing."""
    moved = connection.execute(
        _ADVANCE, {"whose": handler, "held": epoch, "to": position, "until": database_now(connection) + _LEASE}
    )
    if moved.rowcount != 1:
        raise LeaseLost(f"the cursor of {handler} is held by another process")
    deliveries.write(connection, handler, parked)
    deliveries.strike(connection, handler, delivered)


def _release(connection: Connection, handler: str, epoch: int) -> None:
    connection.execute(_RELEASE, {"whose": handler, "held": epoch})
