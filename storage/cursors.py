"""Handlers' cursors: lease, fence and position are one row, and what a handler does to its rows is one transaction.

Nothing outlives a transaction: no session lock, no notification, so a pooler in transaction mode may stand between.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple

from sqlalchemy import Connection, bindparam, exists, or_, select, true, update
from sqlalchemy.sql import ColumnElement

from ingest.deliveries import LEASE_SECONDS, HandlerLag, Parked, Seen
from ingest.errors import LeaseLost, StoreRewound
from ingest.event import Event
from storage import bulk, deliveries
from storage.clock import database_now
from storage.engine import Database
from storage.rewinds import Rewinds
from storage.tables import cursors, events, head
from storage.transactions import transaction

_LEASE = LEASE_SECONDS * 1_000_000
_NEW_CURSOR = ("handler", "position", "epoch")
_HEAD = select(head.c.position)
# A database that was put back is told by where the cursor is, by where it ends, or by what was stored there since.
_ADVANCE = (
    update(cursors)
    .where(
        cursors.c.handler == bindparam("whose"),
        cursors.c.epoch == bindparam("held"),
        cursors.c.position.between(bindparam("saved"), bindparam("tried")),
        _HEAD.scalar_subquery() >= bindparam("read_to"),
        ~exists().where(events.c.position == bindparam("read_to"), events.c.id != bindparam("read_id")),
    )
    .values(position=bindparam("to"), expires_at=bindparam("until"))
)
_RELEASE = (
    update(cursors)
    .where(cursors.c.handler == bindparam("whose"), cursors.c.epoch == bindparam("held"))
    .values(holder=None, expires_at=None)
)


@dataclass(frozen=True, slots=True)
class _Move:
    """One save: the cursor's row has to be where it was `saved` or `tried` to be, and goes on."""

    whose: str
    held: int
    saved: int
    tried: int
    to: int
    seen: Seen | None


class _Refused(NamedTuple):
    """The evidence that the row is not the one that was saved, though no other process has it; where the store ends."""

    head: int
    evidence: str


class SqlCursors:
    """protocols.Cursors on SQLite or PostgreSQL; redriving needs no lease."""

    def __init__(self, database: Database, rewinds: Rewinds | None = None) -> None:
        self._database = database
        self._rewinds = rewinds or Rewinds()
        self._taken: set[str] = set()

    async def acquire(self, handler: str, *, holder: str, begin: Literal["now", "beginning"]) -> SqlCursor | None:
        """See protocols.Cursors.

        On SQLite there is one process, and one that was killed must not be waited for: the first time, the cursor is
        taken from whoever has it. A second time would be two living processes robbing each other by turns.

        A handler that this process had, and that a database put back to an older state does not know, begins where that
        one ended: what was stored since is not to be skipped.
        """
        known = handler in self._taken
        by_force = self._database.dialect == "sqlite" and not known
        latest = self._rewinds.floor if known and self._rewinds.number else None
        mark = self._rewinds.mark()
        leased = await self._database.write(_acquire, handler, holder, begin, by_force, latest)
        if leased is None:
            return None
        self._taken.add(handler)
        epoch, position, head_ = leased
        self._rewinds.compare(mark, head_)
        self._rewinds.reached(head_)
        if position > head_:
            self._rewinds.notice(mark, head_, f"its last position is {head_}, and {handler} was at {position}")
        return SqlCursor(self._database, handler, epoch, min(position, head_), self._rewinds)

    async def redrive(self, handler: str, positions: Sequence[int] | None = None) -> int:
        """Give dead letters back to the handler, all or those at `positions`; return how many."""
        return await self._database.write(deliveries.redrive, handler, positions)

    async def delete_dead(self, handler: str, positions: Sequence[int] | None = None) -> int:
        """Delete dead letters of a handler, all or those at `positions`; return how many."""
        return await self._database.write(deliveries.delete_dead, handler, positions)


class SqlCursor:
    """protocols.Cursor, as long as its epoch is the row's.

    Where an answer was lost the row is somewhere between `position` and where the cursor `tried` to go.
    """

    def __init__(self, database: Database, handler: str, epoch: int, position: int, rewinds: Rewinds) -> None:
        self._database = database
        self._handler = handler
        self._epoch = epoch
        self._position = self._tried = position
        self._rewinds = rewinds
        self._began = rewinds.mark()

    @property
    def position(self) -> int:
        """See protocols.Cursor."""
        return self._position

    async def advance(
        self, position: int, parked: Sequence[Parked] = (), delivered: Sequence[int] = (), *, seen: Seen | None = None
    ) -> None:
        """See protocols.Cursor."""
        if self._rewinds.number != self._began.number:
            raise StoreRewound(f"the cursor of {self._handler} is of before")
        self._tried = max(self._tried, position)
        move = _Move(self._handler, self._epoch, self._position, self._tried, position, seen)
        refused = await self._database.write(_advance, move, parked, delivered)
        if refused is not None:
            self._rewinds.notice(self._began, refused.head, refused.evidence)
            raise StoreRewound(refused.evidence)
        self._position = position

    async def due(
        self, now: datetime, limit: int, *, by_device: bool, beyond: datetime | None = None
    ) -> Sequence[tuple[Parked, Event]]:
        """See protocols.Cursor."""
        return await self._database.read(deliveries.due, self._handler, now, limit, by_device=by_device, beyond=beyond)

    async def behind(self, device: str, limit: int) -> Sequence[tuple[Parked, Event]]:
        """See protocols.Cursor."""
        return await self._database.read(deliveries.behind, self._handler, device, limit)

    async def waiting_devices(self) -> Sequence[str]:
        """See protocols.Cursor."""
        return await self._database.read(deliveries.waiting_devices, self._handler)

    async def lag(self) -> HandlerLag:
        """See protocols.Cursor."""
        found = await self._database.read(deliveries.lag, self._handler)
        if found is None:
            raise LeaseLost(f"the cursor of {self._handler} is gone")
        return found

    async def release(self) -> None:
        """See protocols.Cursor."""
        await self._database.write(_release, self._handler, self._epoch)


@transaction
def _acquire(
    connection: Connection, handler: str, holder: str, begin: str, by_force: bool, latest: int | None
) -> tuple[int, int, int] | None:
    """Take the lease; return its epoch and position, and the head, or None where another has it.

    A cursor beyond the head, which a database that was put back may have, is moved there. `latest`: where a cursor that
    is not there begins at the latest.
    """
    last = connection.execute(_HEAD).scalar_one()
    begin_at = 0 if begin == "beginning" else last if latest is None else min(last, latest)
    bulk.insert(connection, cursors, _NEW_CURSOR, [(handler, begin_at, 0)], "ON CONFLICT (handler) DO NOTHING")
    now = database_now(connection)
    whose = cursors.c.handler == handler
    ours = (
        update(cursors)
        .where(whose, true() if by_force else _free(holder, now))
        .values(holder=holder, epoch=cursors.c.epoch + 1, expires_at=now + _LEASE)
        .returning(cursors.c.epoch, cursors.c.position)
    )
    row = connection.execute(ours).one_or_none()
    if row is None:
        return None
    last = connection.execute(_HEAD).scalar_one()  # again: the one before may have moved on while we waited for it
    if row.position > last:
        connection.execute(update(cursors).where(whose).values(position=last))
    return row.epoch, row.position, last


def _free(holder: str, now: int) -> ColumnElement[bool]:
    """Return whether nobody has the cursor: also where its lease ends later than any that was made by now can.

    The database's clock was ahead then. A margin of another lease is for a clock that is set back a little.
    """
    ends = cursors.c.expires_at
    return or_(cursors.c.holder.is_(None), cursors.c.holder == holder, ends < now, ends > now + 2 * _LEASE)


@transaction
def _advance(
    connection: Connection, move: _Move, parked: Sequence[Parked], delivered: Sequence[int]
) -> _Refused | None:
    """Save. The fence comes first: its row lock makes whoever wants to take over wait, and its miss undoes nothing."""
    read_to, read_id = move.seen or (move.to, None)
    row = {"whose": move.whose, "held": move.held, "saved": move.saved, "tried": move.tried, "to": move.to}
    row |= {"read_to": read_to, "read_id": read_id, "until": database_now(connection) + _LEASE}
    if connection.execute(_ADVANCE, row).rowcount != 1:
        return _refused(connection, move)
    deliveries.write(connection, move.whose, parked)
    deliveries.delete_rows(connection, move.whose, delivered)
    return None


def _refused(connection: Connection, move: _Move) -> _Refused:
    """Raises LeaseLost where another process has the cursor; epochs do not go back by themselves."""
    row = connection.execute(select(cursors).where(cursors.c.handler == move.whose)).one_or_none()
    if row is None or row.epoch > move.held:
        raise LeaseLost(f"the cursor of {move.whose} is held by another process")
    last = connection.execute(_HEAD).scalar_one()
    read_to = move.to if move.seen is None else move.seen.position
    return _Refused(
        last, f"{move.whose} was at {move.saved} and has read to {read_to}; its cursor is at {row.position} of {last}"
    )


@transaction
def _release(connection: Connection, handler: str, epoch: int) -> None:
    connection.execute(_RELEASE, {"whose": handler, "held": epoch})
