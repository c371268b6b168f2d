"""Handlers' cursors: lease, fence and position are one row, and what a handler does to its rows is one transaction.

Nothing outlives a transaction: no session lock, no notification, so a pooler in transaction mode may stand between.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple

from sqlalchemy import Connection, bindparam, exists, select, update

from ingest.deliveries import CRASHED, Circuit, HandlerLag, Parked, Seen
from ingest.errors import LeaseLost, StoreRewound
from ingest.event import Event
from ingest.leases import Lease, OwnLeases, handler_lease
from ingest.protocols import Leases
from storage import crash_marks, deliveries, leases, pauses, sequences
from storage.clock import database_now
from storage.engine import Database
from storage.leases import Leased
from storage.rewinds import Rewinds
from storage.rows import to_micros
from storage.runs import Run, positions_of, read_runs, write_runs
from storage.sequences import Followed
from storage.tables import LAST_POSITION, cursors, events
from storage.transactions import transaction

# A database that was put back is told by where the cursor is, by where it ends, or by what was stored there since.
_ADVANCE = (
    update(cursors)
    .where(
        cursors.c.handler == bindparam("whose"),
        cursors.c.epoch == bindparam("held"),
        cursors.c.position.between(bindparam("saved"), bindparam("tried")),
        LAST_POSITION.scalar_subquery() >= bindparam("read_to"),
        ~exists().where(events.c.position == bindparam("read_to"), events.c.id != bindparam("read_id")),
    )
    .values(
        position=bindparam("to"),
        expires_at=bindparam("until"),
        unmatched=bindparam("left_out"),
        delivered=bindparam("had"),
        skipped=bindparam("taken"),
        ahead=bindparam("beyond"),
    )
)


@dataclass(frozen=True, slots=True)
class _Move:
    """What one save asks of the cursor's row: to be where it was `saved` or `tried` to be, and to go on.

    `unmatched`, `delivered` and `skipped` are totals, so that a save whose answer was lost can be repeated.
    """

    whose: str
    held: int
    saved: int
    tried: int
    to: int
    seen: Seen | None
    unmatched: int
    delivered: int
    skipped: int
    ahead: str | None


class _Refused(NamedTuple):
    """The evidence that the row is not the one that was saved, though no other process has it; where the store ends."""

    head: int
    evidence: str


class SqlCursors:
    """protocols.Cursors on SQLite or PostgreSQL; redriving needs no lease."""

    def __init__(self, database: Database, rewinds: Rewinds | None = None, leases: Leases | None = None) -> None:
        """`leases` spread the handlers over the processes; the fence is the cursor's row alone."""
        self._database = database
        self._rewinds = rewinds or Rewinds()
        self._leases = leases or OwnLeases()
        self._taken: set[str] = set()

    async def acquire(self, handler: str, *, holder: str, begin: Literal["now", "beginning"]) -> SqlCursor | None:
        """See protocols.Cursors.

        On SQLite there is one process, and one that was killed must not be waited for: the first time, the cursor is
        taken from whoever has it. A second time would be two living processes robbing each other by turns.

        A handler that this process had, and that a database put back to an older state does not know, begins where that
        one ended: what was stored since is not to be skipped.
        """
        lease = self._leases.lease(handler_lease(handler))
        if not lease.held:
            return None
        known = handler in self._taken
        by_force = self._database.dialect == "sqlite" and not known
        latest = self._rewinds.floor if known and self._rewinds.number else None
        mark = self._rewinds.mark()
        leased = await self._database.write(leases.acquire, handler, holder, begin, by_force, latest)
        if leased is None:
            return None
        self._taken.add(handler)
        self._rewinds.compare(mark, leased.head)
        self._rewinds.reached(leased.head)
        if leased.position > leased.head:
            at = f"its last position is {leased.head}, and {handler} was at {leased.position}"
            self._rewinds.notice(mark, leased.head, at)
            leased = leased._replace(position=leased.head, ahead=None)
        return SqlCursor(self._database, handler, leased, self._rewinds, lease)

    async def pause(self, handler: str, because: str) -> None:
        """See protocols.Cursors."""
        await self._database.write(pauses.pause, handler, because)


class SqlCursor:
    """protocols.Cursor, as long as its epoch is the row's.

    Where an answer was lost the row is somewhere between `position` and where the cursor `tried` to go.
    """

    def __init__(
        self, database: Database, handler: str, leased: Leased, rewinds: Rewinds, lease: Lease | None = None
    ) -> None:
        self.pause = leased.pause
        self.deaths = leased.deaths
        self.ahead = positions_of(read_runs(leased.position, leased.ahead))
        self._database = database
        self._handler = handler
        self._epoch = leased.epoch
        self._position = self._tried = leased.position
        self._unmatched, self._delivered, self._skipped = leased.unmatched, leased.delivered, leased.skipped
        self._rewinds = rewinds
        self._began = rewinds.mark()
        self._lease = lease or Lease(held=True)

    @property
    def position(self) -> int:
        """See protocols.Cursor."""
        return self._position

    @property
    def wanted_elsewhere(self) -> bool:
        """See protocols.Cursor."""
        return not self._lease.held

    async def advance(
        self,
        position: int,
        parked: Sequence[Parked] = (),
        delivered: Sequence[int] = (),
        *,
        seen: Seen | None = None,
        unmatched: int = 0,
        skipped: int = 0,
        ahead: Sequence[Run] = (),
        followed: Followed | None = None,
    ) -> None:
        """See protocols.Cursor. `followed` is written in the same transaction."""
        if self._rewinds.number != self._began.number:
            raise StoreRewound(f"the cursor of {self._handler} is of before")
        self._tried = max(self._tried, position)
        passed = position - self._position - sum(row.position > self._position for row in parked)
        had = passed - unmatched - skipped + sum(at <= self._position for at in delivered)
        move = _Move(
            whose=self._handler,
            held=self._epoch,
            saved=self._position,
            tried=self._tried,
            to=position,
            seen=seen,
            unmatched=self._unmatched + unmatched,
            delivered=self._delivered + had,
            skipped=self._skipped + skipped,
            ahead=write_runs(position, ahead),
        )
        refused = await self._database.write(_advance, move, parked, delivered, followed)
        if refused is not None:
            self._rewinds.notice(self._began, refused.head, refused.evidence)
            raise StoreRewound(refused.evidence)
        self._position = position
        self._unmatched, self._delivered, self._skipped = move.unmatched, move.delivered, move.skipped

    async def mark(self, position: int | None) -> None:
        """See protocols.Cursor."""
        await self._database.write(_mark, self._handler, self._epoch, position)

    async def show_circuit(self, circuit: Circuit) -> None:
        """See protocols.Cursor."""
        await self._database.write(_show_circuit, self._handler, self._epoch, circuit)

    async def due(
        self, now: datetime, limit: int, *, by_device: bool, beyond: datetime | None = None
    ) -> Sequence[tuple[Parked, Event]]:
        """See protocols.Cursor."""
        return await self._database.read(deliveries.due, self._handler, now, limit, by_device=by_device, beyond=beyond)

    async def behind(self, devices: Sequence[str], limit: int) -> Mapping[str, Sequence[tuple[Parked, Event]]]:
        """See protocols.Cursor."""
        return await self._database.read(deliveries.behind, self._handler, devices, limit)

    async def waiting_devices(self) -> Sequence[str]:
        """See protocols.Cursor."""
        return await self._database.read(deliveries.waiting_devices, self._handler)

    async def lag(self) -> HandlerLag:
        """See protocols.Cursor."""
        found = await self._database.read(deliveries.lag, self._handler)
        if found is None:
            raise LeaseLost(f"the cursor of {self._handler} is gone")
        self.pause = found.pause
        return found

    async def release(self) -> None:
        """See protocols.Cursor."""
        await self._database.write(leases.release, self._handler, self._epoch)


@transaction
def _mark(connection: Connection, handler: str, epoch: int, position: int | None) -> None:
    leases.require_held(connection, handler, epoch)
    crash_marks.mark(connection, handler, position)


@transaction
def _show_circuit(connection: Connection, handler: str, epoch: int, circuit: Circuit) -> None:
    since = None if circuit.since is None else to_micros(circuit.since)
    shown = {"circuit": circuit.state.value, "circuit_since": since, "last_error": circuit.last_error}
    held = (cursors.c.handler == handler, cursors.c.epoch == epoch)
    if connection.execute(update(cursors).where(*held).values(**shown)).rowcount != 1:
        raise LeaseLost(f"the cursor of {handler} is held by another process")


@transaction
def _advance(
    connection: Connection,
    move: _Move,
    parked: Sequence[Parked],
    delivered: Sequence[int],
    followed: Followed | None,
) -> _Refused | None:
    """Save. The fence comes first: its row lock makes whoever wants to take over wait, and its miss undoes nothing."""
    read_to, read_id = move.seen or (move.to, None)
    row = {"whose": move.whose, "held": move.held, "saved": move.saved, "tried": move.tried, "to": move.to}
    row |= {"read_to": read_to, "read_id": read_id, "until": database_now(connection) + leases.LEASE}
    row |= {"left_out": move.unmatched, "had": move.delivered, "taken": move.skipped, "beyond": move.ahead}
    if connection.execute(_ADVANCE, row).rowcount != 1:
        return _refused(connection, move)
    deliveries.write(connection, move.whose, parked)
    crash_marks.forgive(connection, move.whose, [row.position for row in parked if row.cause == CRASHED])
    deliveries.delete_rows(connection, move.whose, delivered)
    if followed is not None:
        sequences.write(connection, followed)
    return None


def _refused(connection: Connection, move: _Move) -> _Refused:
    """Raises LeaseLost where another process has the cursor; epochs do not go back by themselves."""
    row = connection.execute(select(cursors).where(cursors.c.handler == move.whose)).one_or_none()
    if row is None or row.epoch > move.held:
        raise LeaseLost(f"the cursor of {move.whose} is held by another process")
    last = connection.execute(LAST_POSITION).scalar_one()
    read_to = move.to if move.seen is None else move.seen.position
    return _Refused(
        last, f"{move.whose} was at {move.saved} and has read to {read_to}; its cursor is at {row.position} of {last}"
    )
