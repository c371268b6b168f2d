"""The head: the last position that was given."""

from __future__ import annotations

from sqlalchemy import Connection

from storage.tables import LAST_POSITION


def head_position(connection: Connection) -> int:
    """Return the highest position that was ever given."""
    return int(connection.execute(LAST_POSITION).scalar_one())
