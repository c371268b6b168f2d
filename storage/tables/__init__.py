"""The schema as Core tables: what is durable, and nothing else. alembic/versions holds the same, step by step.

`schema_of` says where PostgreSQL's differs: events in partitions by position, and their ids beside them.

Times are microseconds since 1970 (BIGINT: years 1 to 9999 fit), so both databases compare and round them alike.
"""

from __future__ import annotations

from sqlalchemy import MetaData, PrimaryKeyConstraint, Table

from storage.tables.base import EventId, Position, metadata
from storage.tables.books import blocks, comparisons, devices, pauses, products, transits
from storage.tables.events import (
    BLOCK_BITS,
    LAST_POSITION,
    batches,
    block,
    events,
    head,
    hook_echoes,
    ids,
    messages,
    rejects,
    sightings,
    tallies,
    writers,
)
from storage.tables.handlers import crash_marks, cursors, deliveries, skipped
from storage.tables.losses import NOT_RECOVERED, coverage, gaps, losses, sequences
from storage.tables.processes import leases, replicas, stream_opens

__all__ = [
    "BLOCK_BITS",
    "LAST_POSITION",
    "NOT_RECOVERED",
    "EventId",
    "Position",
    "batches",
    "block",
    "blocks",
    "comparisons",
    "coverage",
    "crash_marks",
    "cursors",
    "deliveries",
    "devices",
    "events",
    "gaps",
    "head",
    "hook_echoes",
    "ids",
    "ids_of",
    "leases",
    "losses",
    "messages",
    "metadata",
    "pauses",
    "products",
    "rejects",
    "replicas",
    "schema_of",
    "sequences",
    "sightings",
    "skipped",
    "stream_opens",
    "tallies",
    "transits",
    "writers",
]


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
