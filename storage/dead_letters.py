"""Dead letters given back or deleted, in steps: by whoever has no lease, while their handler runs or not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, Delete, Select, Update, delete, func, or_, select, update

from storage.engine import Database, Work
from storage.rows import to_micros
from storage.tables import cursors, deliveries, events
from storage.transactions import transaction

STEP_ROWS = 500
_AT_ONCE = 0  # due by anybody's clock


class Chosen(NamedTuple):
    """Which dead letters of a handler somebody means: those that meet every condition that is given.

    `since` and `until`: when they failed first, the former included.
    """

    ids: Sequence[UUID] | None = None
    cause: str | None = None
    since: datetime | None = None
    until: datetime | None = None


ALL = Chosen()


async def each_step(database: Database, step: Work[..., int], handler: str, chosen: Chosen) -> AsyncIterator[int]:
    """Repeat `give_back` or `remove` until none of the chosen is left; yield how many each step changed.

    Those that die meanwhile are left alone, unless `chosen.until` says otherwise. Ending it early loses nothing.
    """
    if chosen.until is None:
        chosen = chosen._replace(until=datetime.now(UTC))
    while count := await database.write(step, handler, chosen):
        yield count


@transaction
def give_back(connection: Connection, handler: str, chosen: Chosen = ALL, limit: int = STEP_ROWS) -> int:
    """Make at most `limit` of the chosen dead letters due at once, the first ones; return how many.

    They have all their attempts before them again, and keep what is known of those that were. A running server notices
    within five seconds.
    """
    positions = _chosen(connection, handler, chosen, limit)
    again = update(deliveries).values(due_at=_AT_ONCE, attempts=0, first_failed_at=None)
    return _each(connection, again, handler, positions)


@transaction
def remove(connection: Connection, handler: str, chosen: Chosen = ALL, limit: int = STEP_ROWS) -> int:
    """Delete at most `limit` of the chosen dead letters; return how many. Their events go when they are old enough."""
    gone = _each(connection, delete(deliveries), handler, _chosen(connection, handler, chosen, limit))
    count_deleted = update(cursors).where(cursors.c.handler == handler).values(deleted=cursors.c.deleted + gone)
    connection.execute(count_deleted)
    return gone


def count(connection: Connection, handler: str, chosen: Chosen = ALL) -> int:
    """Return how many dead letters are meant."""
    count: int = connection.execute(_dead(handler, chosen, func.count())).scalar_one()
    return count


def _dead(handler: str, chosen: Chosen, *what: Any) -> Select[Any]:
    """Select of the chosen dead letters."""
    conditions = [deliveries.c.handler == handler, deliveries.c.due_at.is_(None)]
    if chosen.cause is not None:
        conditions.append(deliveries.c.cause == chosen.cause)
    if chosen.since is not None:
        conditions.append(deliveries.c.first_failed_at >= to_micros(chosen.since))
    if chosen.until is not None:
        failed_at = deliveries.c.first_failed_at
        conditions.append(or_(failed_at.is_(None), failed_at < to_micros(chosen.until)))
    if chosen.ids is not None:
        conditions.append(deliveries.c.position.in_(select(events.c.position).where(events.c.id.in_(chosen.ids))))
    return select(*what).where(*conditions)


def _chosen(connection: Connection, handler: str, chosen: Chosen, limit: int) -> list[int]:
    key = deliveries.c.position
    return list(connection.execute(_dead(handler, chosen, key).order_by(key).limit(limit)).scalars())


def _each(connection: Connection, statement: Update | Delete, handler: str, positions: Sequence[int]) -> int:
    """Change the rows of dead letters at these positions; return how many there were."""
    dead = (deliveries.c.handler == handler, deliveries.c.due_at.is_(None))
    chunks = (positions[start : start + STEP_ROWS] for start in range(0, len(positions), STEP_ROWS))
    return sum(connection.execute(statement.where(*dead, deliveries.c.position.in_(some))).rowcount for some in chunks)
