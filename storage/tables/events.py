"""What arrived: events in order of commit, their ids, who else saw them, rejects, and the tallies of it all."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    literal_column,
    select,
)

from storage.tables.base import EventId, Position, metadata

# The last position given. Its row lock orders the committers, so positions are dense and in order of commit.
head = Table(
    "head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("position", BigInteger, nullable=False, autoincrement=False),
)
# From the end of PostgreSQL's index: while an old snapshot lasts, the row's earlier versions stay, one for each commit.
LAST_POSITION = select(head.c.position).order_by(head.c.position.desc()).limit(1)

# Not used any more.
writers = Table(
    "writers",
    metadata,
    Column("writer", Text, primary_key=True),
    Column("batch", BigInteger, nullable=False),
    Column("committed_at", BigInteger, nullable=False),
)

# The last batch that each process committed: where the answer to a COMMIT was lost, this row knows. A process takes
# another name now and then, for the same reason as above.
batches = Table(
    "batches",
    metadata,
    Column("writer", Text, primary_key=True),
    Column("batch", BigInteger, nullable=False),
    Column("committed_at", BigInteger, nullable=False),
)

events = Table(
    "events",
    metadata,
    Column("position", Position, primary_key=True, autoincrement=False),
    Column("id", EventId, nullable=False),
    Column("product", Text, nullable=False),
    Column("device", Text),
    Column("name", Text, nullable=False),
    Column("data", LargeBinary),
    Column("content_type", Text),
    Column("published_at", BigInteger),
    Column("received_at", BigInteger, nullable=False),
    Column("source", Text, nullable=False),
    Column("mode", Text, nullable=False),
    Column("attributes", Text, nullable=False),
    Column("stream", Integer, nullable=False, server_default="0"),
    Index("uq_events_id", "id", unique=True),
)
# Each event's id is there once. A unique index of a partitioned table must hold the key of the partitions.
ids = Table(
    "ids",
    metadata,
    Column("id", EventId, primary_key=True),
    Column("position", BigInteger, nullable=False),
)
# Positions in blocks of 4,096. An index by device alone would have its end in as many pages as there are devices, and
# each commit would write most of them; by block and device all of a commit's entries are in a few.
BLOCK_BITS = 12
block: ColumnElement[int] = events.c.position.op(">>")(literal_column(str(BLOCK_BITS)))
Index("ix_events_block_device", block, events.c.device)

# Who else saw an event, and when: one row for each further arrival.
sightings = Table(
    "sightings",
    metadata,
    Column("id", Position, primary_key=True, autoincrement=True),
    Column("position", BigInteger, nullable=False),
    Column("source", Text, nullable=False),
    Column("mode", Text, nullable=False),
    Column("received_at", BigInteger, nullable=False),
    Index("ix_sightings_position", "position"),
)

rejects = Table(
    "rejects",
    metadata,
    Column("id", Position, primary_key=True, autoincrement=True),
    Column("source", Text, nullable=False),
    Column("mode", Text, nullable=False),
    Column("received_at", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("attributes", Text),
    Column("headers", Text),
    Column("element", Integer),
    sqlite_autoincrement=True,
)

# Committed outcomes by minute, and `expired`: rows in events = stored - expired, after any crash. A row stands for that
# many `minutes` from `minute` on (storage/folding.py).
tallies = Table(
    "tallies",
    metadata,
    Column("source", Text, primary_key=True),
    Column("mode", Text, primary_key=True),
    Column("minute", BigInteger, primary_key=True, autoincrement=False),
    Column("outcome", Text, primary_key=True),
    Column("count", BigInteger, nullable=False),
    Column("minutes", Integer, nullable=False, server_default="1"),
)

# The device's own number of a message, where `message_id` says where that stands: a second one is a copy.
messages = Table(
    "messages",
    metadata,
    Column("product", Text, primary_key=True),
    Column("device", Text, primary_key=True),
    Column("message", Text, primary_key=True),
    Column("position", BigInteger, nullable=False),
    Index("ix_messages_position", "position"),
    sqlite_with_rowid=False,
)

# The vendor's own word on its webhooks, by the hour (hours since 1970) and by the way it came, before it is ignored.
hook_echoes = Table(
    "hook_echoes",
    metadata,
    Column("hour", BigInteger, primary_key=True, autoincrement=False),
    Column("source", Text, primary_key=True),
    Column("mode", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("outcome", Text, primary_key=True),
    Column("count", BigInteger, nullable=False),
)
