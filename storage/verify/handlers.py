"""Every position that a handler passed has become one thing, and nothing of a handler is beyond the head."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from sqlalchemy import Connection, func, select

from storage.books import BOOKS, COMPARISON
from storage.head import head_position
from storage.sequences import AUDITOR
from storage.tables import cursors, deliveries
from storage.verify.finding import Finding, quoted

_PLACES = (BOOKS, COMPARISON)  # count nothing


class _Parked(NamedTuple):
    """How many rows a handler has in `deliveries`, and at which last position."""

    rows: int
    last: int


def count(connection: Connection) -> int:
    """Return how many cursors there are."""
    return int(connection.execute(select(func.count()).select_from(cursors)).scalar_one())


def accounts(connection: Connection) -> Iterator[Finding]:
    """Yield each handler whose cursor does not tell what became of what it passed, or is beyond the head."""
    head = head_position(connection)
    by_handler = select(deliveries.c.handler, func.count(), func.max(deliveries.c.position))
    rows = connection.execute(by_handler.group_by(deliveries.c.handler))
    parked = {handler: _Parked(count, last) for handler, count, last in rows}
    for cursor in connection.execute(select(cursors).order_by(cursors.c.handler)).all():
        its = parked.pop(cursor.handler, _Parked(0, 0))
        counts = cursor.handler == AUDITOR or not cursor.handler.startswith("(")
        if counts or cursor.handler in _PLACES:  # another place is of something else than events
            yield from _beyond(cursor.handler, "cursors", cursor.position, head)
        if counts:
            yield from _beyond(cursor.handler, "deliveries", its.last, head)
            yield from _account(cursor, its.rows)
    for handler, (rows_left, last) in parked.items():
        look_at = f"deliveries WHERE handler = {quoted(handler)}: it has no cursor"
        yield Finding(
            check="handlers",
            handler=handler,
            last=last,
            expected=0,
            found=rows_left,
            difference=rows_left,
            look_at=look_at,
        )


def _account(cursor: Any, parked: int) -> Iterator[Finding]:
    passed = cursor.position - cursor.first_position
    became = cursor.unmatched + cursor.delivered + cursor.deleted + cursor.skipped + parked
    if passed != became:
        whose = f"WHERE handler = {quoted(cursor.handler)}"
        yield Finding(
            check="handlers",
            handler=cursor.handler,
            first=cursor.first_position + 1,
            last=cursor.position,
            expected=passed,
            found=became,
            difference=became - passed,
            look_at=f"cursors {whose}; deliveries {whose}, which are {parked}",
        )


def _beyond(handler: str, table: str, position: int, head: int) -> Iterator[Finding]:
    if position > head:
        yield Finding(
            check="handlers",
            handler=handler,
            last=position,
            expected=head,
            found=position,
            difference=position - head,
            look_at=f"{table} WHERE handler = {quoted(handler)} AND position > {head}",
        )
