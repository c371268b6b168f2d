"""Dead letters given back or deleted, in steps: by whoever has no lease, while their handler runs or not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, Delete, Select, Update, delete, func, or_, select, update

from storage.engine import Database, Work
from storage.rows import to_micros
from storage.tables import cursors, deliveries, events
from storage.transactions import transaction

STEP_ROWS = 500
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
    positions = _positions(connection, handler, chosen, limit)
    again = update(deliveries).values(due_at=_AT_ONCE, attempts=0, first_failed_at=None)
    return _each(connection, again, handler, positions)


@transaction
def remove(connection: Connection, handler: str, chosen: Chosen = ALL, limit: int = STEP_ROWS) -> int:
    """Delete at most `limit` of the chosen dead letters; return how many. Their events go when they are old enough."""
    gone = _each(connection, delete(deliveries), handler, _positions(connection, handler, chosen, limit))
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
    if chosen.positions is not None:
        conditions.append(deliveries.c.position.in_(chosen.positions))
    if chosen.ids is not None:
        conditions.append(deliveries.c.position.in_(select(events.c.position).where(events.c.id.in_(chosen.ids))))
    return select(*what).where(*conditions)


def _positions(connection: Connection, handler: str, chosen: Chosen, limit: int | None = None) -> list[int]:
    """Return where the chosen dead letters are, the first ones."""
    key = deliveries.c.position
    return list(connection.execute(_dead(handler, chosen, key).order_by(key).limit(limit)).scalars())


def _each(connection: Connection, statement: Update | Delete, handler: str, positions: Sequence[int]) -> int:
    """Change the rows of dead letters at these positions; return how many there were."""
    dead = (deliveries.c.handler == handler, deliveries.c.due_at.is_(None))
    chunks = (positions[start : start + STEP_ROWS] for start in range(0, len(positions), STEP_ROWS))
    return sum(connection.execute(statement.where(*dead, deliveries.c.position.in_(some))).rowcount for some in chunks)
