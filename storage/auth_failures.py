"""Requests that were not let in, counted beside what was brought: so whoever has only the store sees them too."""

from __future__ import annotations

from sqlalchemy import Connection

from storage import bulk
from storage.clock import database_now
from storage.store import ADD_UP, TALLY_COLUMNS
from storage.tables import tallies
from storage.transactions import transaction

UNAUTHORIZED = "unauthorized"
"""Their outcome in the tallies: they are no arrivals, and no other outcome."""

_MINUTE_MICROS = 60_000_000


@transaction
def add_auth_failures(connection: Connection, source: str, count: int) -> None:
    """Add so many to a source's, in this minute."""
    row = (source, "webhook", database_now(connection) // _MINUTE_MICROS, UNAUTHORIZED, count)
    bulk.insert(connection, tallies, TALLY_COLUMNS, [row], ADD_UP)
