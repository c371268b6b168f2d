"""The lease of a handler's cursor: taken, held by its epoch, and given back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, or_, select, true, update
from sqlalchemy.sql import ColumnElement

from ingest.deliveries import LEASE_SECONDS, Pause
from ingest.errors import LeaseLost
from storage import bulk, crash_marks
from storage.clock import database_now
from storage.pauses import pause_of
from storage.tables import LAST_POSITION, cursors
from storage.transactions import transaction

LEASE = LEASE_SECONDS * 1_000_000  # microseconds
_NEW_CURSOR = ("handler", "position", "epoch", "first_position")
_RELEASE = (
    update(cursors)
    .where(cursors.c.handler == bindparam("whose"), cursors.c.epoch == bindparam("held"))
    .values(holder=None, expires_at=None)
)


class Leased(NamedTuple):
    """The row of a cursor as it was acquired; where the store ends; the marks of a holder that died, if one did."""

    epoch: int
    position: int
    head: int
    unmatched: int
    delivered: int
    skipped: int
    ahead: str | None
    pause: Pause | None
    deaths: Mapping[int, int] | None


@transaction
def acquire(
    connection: Connection, handler: str, holder: str, begin: str, by_force: bool, latest: int | None
) -> Leased | None:
    """Take the lease; return what the row says, or None where another has it.

    A cursor beyond the head, which a database that was put back may have, is moved there. `latest`: where a cursor that
    is not there begins at the latest.
    """
    last = connection.execute(LAST_POSITION).scalar_one()
    begin_at = 0 if begin == "beginning" else last if latest is None else min(last, latest)
    new = (handler, begin_at, 0, begin_at)
    bulk.insert(connection, cursors, _NEW_CURSOR, [new], "ON CONFLICT (handler) DO NOTHING")
    now = database_now(connection)
    whose = cursors.c.handler == handler
    before = connection.execute(select(cursors.c.holder, cursors.c.epoch).where(whose)).one()
    ours = (
        update(cursors)
        .where(whose, cursors.c.epoch == before.epoch, true() if by_force else _free(holder, now))
        .values(holder=holder, epoch=cursors.c.epoch + 1, expires_at=now + LEASE)
        .returning(*cursors.columns)
    )
    row = connection.execute(ours).one_or_none()
    if row is None:
        return None
    last = connection.execute(LAST_POSITION).scalar_one()  # again: it may have moved on while we waited for the row
    if row.position > last:
        back = row.position - last
        first = cursors.c.first_position - back
        connection.execute(update(cursors).where(whose).values(position=last, first_position=first, ahead=None))
    has_died = before.holder not in (None, holder)
    return Leased(
        row.epoch,
        row.position,
        last,
        row.unmatched,
        row.delivered,
        row.skipped,
        row.ahead,
        pause_of(row),
        crash_marks.take_up(connection, handler) if has_died else None,
    )


@transaction
def release(connection: Connection, handler: str, epoch: int) -> None:
    connection.execute(_RELEASE, {"whose": handler, "held": epoch})


def require_held(connection: Connection, handler: str, epoch: int) -> None:
    """Raise LeaseLost where the lease is not of this epoch; lock the row until the transaction ends."""
    held = (cursors.c.handler == handler, cursors.c.epoch == epoch)
    if connection.execute(update(cursors).where(*held).values(epoch=epoch)).rowcount != 1:
        raise LeaseLost(f"the cursor of {handler} is held by another process")


def _free(holder: str, now: int) -> ColumnElement[bool]:
    """Return whether nobody has the cursor: also where its lease ends later than any that was made by now can.

    The database's clock was ahead then. A margin of another lease is for a clock that is set back a little.
    """
    ends = cursors.c.expires_at
    return or_(cursors.c.holder.is_(None), cursors.c.holder == holder, ends < now, ends > now + 2 * LEASE)
