"""A handler's pause: kept in its cursor's row, so that it outlives processes and every replica sees it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, update

from ingest.deliveries import Pause
from storage.clock import database_now
from storage.rows import from_micros
from storage.tables import cursors
from storage.transactions import transaction


@transaction
def pause(connection: Connection, handler: str, because: str) -> bool:
    """Let a handler deliver nothing until somebody resumes it; return whether there is one that was not paused."""
    paused = {"paused_at": database_now(connection), "paused_because": because}
    running = (cursors.c.handler == handler, cursors.c.paused_at.is_(None))
    return connection.execute(update(cursors).where(*running).values(paused)).rowcount > 0


@transaction
def resume(connection: Connection, handler: str) -> bool:
    """Let a handler deliver again; return whether it was paused."""
    paused = (cursors.c.handler == handler, cursors.c.paused_at.is_not(None))
    return connection.execute(update(cursors).where(*paused).values(paused_at=None, paused_because=None)).rowcount > 0


def pause_of(row: Any) -> Pause | None:
    """Return the pause that a row of `cursors` tells of."""
    return None if row.paused_at is None else Pause(from_micros(row.paused_at), row.paused_because or "")
