"""How far each handler is, and what it could not deliver."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, Table, Text

from storage.tables.base import metadata

# One handler's place in the feed. Lease, fence (epoch) and position change in one UPDATE, and with them what became of
# all that was passed: position - first_position = unmatched + delivered + deleted + skipped + its rows in deliveries.
# `deleted` are parked rows that somebody deleted, or that went with their events; `skipped` are positions whose events
# had gone before. `ahead` names what is delivered beyond the position (storage/runs.py).
cursors = Table(
    "cursors",
    metadata,
    Column("handler", Text, primary_key=True),
    Column("position", BigInteger, nullable=False),
    Column("holder", Text),
    Column("epoch", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("first_position", BigInteger, nullable=False, server_default="0"),
    Column("unmatched", BigInteger, nullable=False, server_default="0"),
    Column("delivered", BigInteger, nullable=False, server_default="0"),
    Column("deleted", BigInteger, nullable=False, server_default="0"),
    Column("skipped", BigInteger, nullable=False, server_default="0"),
    Column("ahead", Text),
    Column("paused_at", BigInteger),
    Column("paused_because", Text),
    Column("circuit", Text),
    Column("circuit_since", BigInteger),
    Column("last_error", Text),
)

# Only what failed, or waits behind a failure of its device. due_at is null for a dead letter. `history` is the first
# attempt and the last twenty, as JSON.
deliveries = Table(
    "deliveries",
    metadata,
    Column("handler", Text, primary_key=True),
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("device", Text),
    Column("attempts", Integer, nullable=False),
    Column("first_failed_at", BigInteger),
    Column("due_at", BigInteger),
    Column("error", Text, nullable=False),
    Column("cause", Text),
    Column("history", Text),
    Index("ix_deliveries_handler_due_at", "handler", "due_at"),
    Index("ix_deliveries_position", "position"),
    Index("ix_deliveries_handler_device_position_due_at", "handler", "device", "position", "due_at"),
)

# What retention took before a paused handler had it, whether or not its filters would have let it through.
skipped = Table(
    "skipped",
    metadata,
    Column("handler", Text, primary_key=True),
    Column("first_position", BigInteger, primary_key=True, autoincrement=False),
    Column("last_position", BigInteger, nullable=False),
    Column("events", BigInteger, nullable=False),
    Column("at", BigInteger, nullable=False),
)

# Events that are suspected of ending the process: whether one's delivery has begun, and how many times it was the last.
crash_marks = Table(
    "crash_marks",
    metadata,
    Column("handler", Text, primary_key=True),
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("begun", Boolean, nullable=False),
    Column("deaths", Integer, nullable=False),
)
