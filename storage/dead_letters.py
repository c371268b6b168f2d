"""Dead letters given back or deleted, in steps: by whoever has no lease, while their handler runs or not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Delete, Select, Update, delete, func, or_, select, update

from storage.engine import Database, Work
from storage.rows import to_micros
from storage.tables import cursors, deliveries, ids_of
from storage.transactions import transaction

STEP_ROWS = 100
_STEPS_A_SECOND = 5  # with a rate
_AT_ONCE = 0  # due by anybody's clock


class Chosen(NamedTuple):
    """Which dead letters of a handler somebody means: those that meet every condition that is given.

    `since` and `until`: when they failed first, the former included. `positions` are of events, as `ids` are.
    """

    ids: Sequence[UUID] | None = None
    cause: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    positions: Sequence[int] | None = None


ALL = Chosen()


async def each_step(
    database: Database, step: Work[..., int], handler: str, chosen: Chosen, rate: float | None = None
) -> AsyncGenerator[int, None]:
    """Apply `give_back` or `remove` to all that are chosen now, in steps; yield how many each one changed.

    With a `rate` there are at most so many in a second; without one, half of the time is left to other writers. Ending
    it early loses nothing: a letter is changed once, however many such walks there are.
    """
    if chosen.until is None:  # those that die again meanwhile are left alone
        chosen = chosen._replace(until=datetime.now(UTC))
    positions = await database.read(_positions, handler, chosen)  # once: each search goes through all dead letters
    rows = STEP_ROWS if rate is None else min(max(round(rate / _STEPS_A_SECOND), 1), STEP_ROWS)
    for start in range(0, len(positions), rows):
        begun = time.monotonic()
        yield await database.write(step, handler, chosen._replace(ids=None, positions=positions[start : start + rows]))
        if start + rows < len(positions):
            took = time.monotonic() - begun
            await asyncio.sleep(took if rate is None else max(rows / rate - took, 0))


@transaction
def give_back(connection: Connection, handler: str, chosen: Chosen = ALL, limit: int = STEP_ROWS) -> int:
    """Make at most `limit` of the chosen dead letters due at once, the first ones; return how many.

    They have all their attempts before them again, and keep what is known of those that were. A running server notices
    within five seconds.
    """
    again = update(deliveries).values(due_at=_AT_ONCE, attempts=0, first_failed_at=None)
    return _change(connection, again, handler, chosen, limit)


@transaction
def remove(connection: Connection, handler: str, chosen: Chosen = ALL, limit: int = STEP_ROWS) -> int:
    """Delete at most `limit` of the chosen dead letters; return how many. Their events go when they are old enough."""
    gone = _change(connection, delete(deliveries), handler, chosen, limit)
    count_deleted = update(cursors).where(cursors.c.handler == handler).values(deleted=cursors.c.deleted + gone)
    connection.execute(count_deleted)
    return gone


def count(connection: Connection, handler: str, chosen: Chosen = ALL) -> int:
    """Return how many dead letters are meant."""
    count: int = connection.execute(_dead(connection, handler, chosen, func.count())).scalar_one()
    return count


def _dead(connection: Connection, handler: str, chosen: Chosen, *what: Any) -> Select[Any]:
    """Select of the chosen dead letters."""
    due_at: ColumnElement[int | None] = deliveries.c.due_at
    if chosen.positions is not None:  # they are what to look up; the index of due_at leads through all dead letters
        due_at = due_at + 0
    conditions = [deliveries.c.handler == handler, due_at.is_(None)]
    if chosen.cause is not None:
        conditions.append(deliveries.c.cause == chosen.cause)
    if chosen.since is not None:
        conditions.append(deliveries.c.first_failed_at >= to_micros(chosen.since))
    if chosen.until is not None:
        failed_at = deliveries.c.first_failed_at
        conditions.append(or_(failed_at.is_(None), failed_at < to_micros(chosen.until)))
    if chosen.positions is not None:
        conditions.append(deliveries.c.position.in_(chosen.positions))
    if chosen.ids is not None:
        known = ids_of(connection.dialect.name)
        conditions.append(deliveries.c.position.in_(select(known.c.position).where(known.c.id.in_(chosen.ids))))
    return select(*what).where(*conditions)


def _positions(connection: Connection, handler: str, chosen: Chosen) -> list[int]:
    """Return where the chosen dead letters are."""
    key = deliveries.c.position
    return list(connection.execute(_dead(connection, handler, chosen, key).order_by(key)).scalars())


def _change(connection: Connection, statement: Update | Delete, handler: str, chosen: Chosen, limit: int) -> int:
    """Change the rows of the first of the chosen dead letters; return how many.

    They are locked as they are looked up, so the change itself need not look at due_at, whose indexes lead through all
    that a handler has parked.
    """
    key = deliveries.c.position
    first = _dead(connection, handler, chosen, key).order_by(key).limit(limit).with_for_update()
    positions = connection.execute(first).scalars().all()
    for start in range(0, len(positions), STEP_ROWS):
        some = positions[start : start + STEP_ROWS]
        connection.execute(statement.where(deliveries.c.handler == handler, key.in_(some)))
    return len(positions)
