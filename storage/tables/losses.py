"""When nobody listened, and which numbers did not come."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Float, Index, Integer, LargeBinary, Table, Text, false, text

from storage.tables.base import Position, metadata

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

NOT_RECOVERED = "state <> 'recovered'"  # missing or lost
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
    Index(
        "ix_losses_not_recovered",
        "product",
        "device",
        sqlite_where=text(NOT_RECOVERED),
        postgresql_where=text(NOT_RECOVERED),
    ),
)
