"""A place in the order of commit, kept beside the handlers' cursors: it moves in the transaction that did the work.

So whoever works on it works on what nobody did before, and a database that was put back knows what it had done.
"""

from __future__ import annotations

from sqlalchemy import Connection, select, update

from storage import bulk
from storage.tables import cursors


def take_place(connection: Connection, name: str, begin: int = 0) -> int:
    """Return how far the work is, and let nobody else work until this transaction ends. It begins behind `begin`."""
    mine = select(cursors.c.position).where(cursors.c.handler == name).with_for_update()
    position: int | None = connection.execute(mine).scalar()
    if position is None:
        first = [(name, begin, 0)]
        bulk.insert(connection, cursors, ("handler", "position", "epoch"), first, "ON CONFLICT (handler) DO NOTHING")
        position = connection.execute(mine).scalar_one()
    return position


def move_place(connection: Connection, name: str, position: int) -> None:
    """Note that the work is done up to a position."""
    connection.execute(update(cursors).where(cursors.c.handler == name).values(position=position))
