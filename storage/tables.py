"""The schema as Core tables: what is durable, and nothing else. alembic/versions holds the same, step by step.

`schema_of` says where PostgreSQL's differs: events in partitions by position, and their ids beside them.

Times are microseconds since 1970 (BIGINT: years 1 to 9999 fit), so both databases compare and round them alike.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Dialect,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    TypeDecorator,
    Uuid,
    false,
    literal_column,
    select,
    text,
)
from sqlalchemy.types import TypeEngine

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    }
)

# SQLite makes only a column of the very type INTEGER the row's own key.
Position = BigInteger().with_variant(Integer, "sqlite")


class EventId(TypeDecorator[UUID]):
    """UUID on PostgreSQL; its 16 bytes on SQLite, which sort by time as the UUIDs do."""

    impl = Uuid
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return the column type of the dialect."""
        return dialect.type_descriptor(LargeBinary(16) if dialect.name == "sqlite" else Uuid())

    def process_bind_param(self, value: UUID | None, dialect: Dialect) -> Any:
        """Return the value for the database."""
        return value.bytes if value is not None and dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: Dialect) -> UUID | None:
        """Return the value of the database."""
        return UUID(bytes=value) if isinstance(value, bytes) else value


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

# The processes that live: one that did not renew its row before `expires_at` is taken for dead. `wants` are the names
# of the leases that it would have, a line each.
replicas = Table(
    "replicas",
    metadata,
    Column("holder", Text, primary_key=True),
    Column("expires_at", BigInteger, nullable=False),
    Column("wants", Text, nullable=False),
)

# What one of the replicas does. A lease is held as long as its holder lives; each change of hands is an epoch.
leases = Table(
    "leases",
    metadata,
    Column("name", Text, primary_key=True),
    Column("holder", Text),
    Column("epoch", BigInteger, nullable=False),
)

# The openings of streams within the last minutes, and those that are open: upstream counts them by our address.
stream_opens = Table(
    "stream_opens",
    metadata,
    Column("id", Position, primary_key=True, autoincrement=True),
    Column("host", Text, nullable=False),
    Column("holder", Text, nullable=False),
    Column("opened_at", BigInteger, nullable=False),
    Column("closed", Boolean, nullable=False, server_default=false()),
    Index("ix_stream_opens_host_opened_at", "host", "opened_at"),
)

# Stretches of time in which a stream of a source was listening; `ended` is set when it is known to listen no more.
# `holder` is the process that listens; null where it is of a version that knew no replicas.
coverage = Table(
    "coverage",
    metadata,
    Column("id", Position, primary_key=True, autoincrement=True),
    Column("source", Text, nullable=False),
    Column("mode", Text, nullable=False),
    Column("stream", Integer, nullable=False),
    Column("since", BigInteger, nullable=False),
    Column("until", BigInteger, nullable=False),
    Column("ended", Boolean, nullable=False, server_default=false()),
    Column("holder", Text),
    Index("ix_coverage_source_mode_until", "source", "mode", "until"),
    Index("ix_coverage_open", "source", "mode", sqlite_where=text("ended = 0"), postgresql_where=text("NOT ended")),
)

# What no stretch of a source and mode covers, with its cause; until is null while it lasts.
gaps = Table(
    "gaps",
    metadata,
    Column("id", Position, primary_key=True, autoincrement=True),
    Column("source", Text, nullable=False),
    Column("mode", Text, nullable=False),
    Column("since", BigInteger, nullable=False),
    Column("until", BigInteger),
    Column("cause", Text, nullable=False),
    Column("suspected", Float, nullable=False, server_default="0"),
    Index("ix_gaps_source_mode_since", "source", "mode", "since"),
    Index("ix_gaps_open", "source", "mode", sqlite_where=text("until IS NULL"), postgresql_where=text("until IS NULL")),
    sqlite_autoincrement=True,
)

# What is known of each device's counter (ingest/sequences): a few dozen bytes while all is well, without a row number
# beside the key. `number` is the last one that it reached, `at` when it was heard last. A row without product and
# device says that events were gone before the Auditor had read them: what a device began with is not known.
sequences = Table(
    "sequences",
    metadata,
    Column("product", Text, primary_key=True),
    Column("device", Text, primary_key=True),
    Column("state", LargeBinary, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("at", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

# Numbers of a device that did not come in their turn. Each number has an id: `id` is that of `first`.
losses = Table(
    "losses",
    metadata,
    Column("id", Position, primary_key=True, autoincrement=False),
    Column("source", Text, nullable=False),
    Column("product", Text, nullable=False),
    Column("device", Text, nullable=False),
    Column("first", BigInteger, nullable=False),
    Column("last", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("noticed_at", BigInteger, nullable=False),
    Column("due_at", BigInteger, nullable=False),
    Index(
        "ix_losses_missing",
        "due_at",
        sqlite_where=text("state = 'missing'"),
        postgresql_where=text("state = 'missing'"),
    ),
    Index("ix_losses_product_device", "product", "device"),
)


def ids_of(dialect: str) -> Table:
    """Return the table with an index of the events' ids, of which `id` and `position` may be asked for."""
    return ids if dialect == "postgresql" else events


def schema_of(dialect: str) -> MetaData:
    """Return the schema as `sqlite` or `postgresql` has it."""
    schema = MetaData(naming_convention=metadata.naming_convention)
    elsewhere = {"ids", "batches"} if dialect == "sqlite" else {"writers"}
    for table in metadata.sorted_tables:
        if table.name not in elsewhere:
            table.to_metadata(schema)
    if dialect == "postgresql":
        ours, last = schema.tables["events"], schema.tables["head"]
        ours.dialect_options["postgresql"]["partition_by"] = "RANGE (position)"
        ours.indexes.difference_update([index for index in ours.indexes if index.unique])
        last.c.id.primary_key = False
        last.append_constraint(PrimaryKeyConstraint("position"))
    return schema
