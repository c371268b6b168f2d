"""What the books say of committed events (storage/books): all of it follows from the events, a moment later."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, Index, Integer, Table, Text

from storage.tables.base import metadata

# How many events of a source and mode a block of 4,096 positions holds, and the sum of their ids' last 48 bits.
blocks = Table(
    "blocks",
    metadata,
    Column("block", BigInteger, primary_key=True, autoincrement=False),
    Column("source", Text, primary_key=True),
    Column("mode", Text, primary_key=True),
    Column("events", BigInteger, nullable=False),
    Column("checksum", BigInteger, nullable=False),
)

# What was heard of each device: its last event, and when the last one came that is not one of the vendor's own about
# it (`heard_at`; 0: none came yet). `day` is the last one with events, in days since 1970, `today` how many it had;
# `before` are those of the days before, each day's weighing 7/8 of the next one's.
devices = Table(
    "devices",
    metadata,
    Column("product", Text, primary_key=True),
    Column("device", Text, primary_key=True),
    Column("source", Text, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("first_at", BigInteger, nullable=False),
    Column("last_at", BigInteger, nullable=False),
    Column("heard_at", BigInteger, nullable=False),
    Column("firmware", Text),
    Column("day", BigInteger, nullable=False),
    Column("today", BigInteger, nullable=False),
    Column("before", Float, nullable=False),
    Index("ix_devices_product_source_heard_at_device", "product", "source", "heard_at", "device"),
    sqlite_with_rowid=False,
)

# What was heard of all devices of a product; the days as those of `devices`.
products = Table(
    "products",
    metadata,
    Column("product", Text, primary_key=True),
    Column("devices", BigInteger, nullable=False),
    Column("first_at", BigInteger, nullable=False),
    Column("last_at", BigInteger, nullable=False),
    Column("day", BigInteger, nullable=False),
    Column("today", BigInteger, nullable=False),
    Column("before", Float, nullable=False),
)

# The longest pause between two events of a source that ended on a day (days since 1970), and when its last event came.
pauses = Table(
    "pauses",
    metadata,
    Column("source", Text, primary_key=True),
    Column("day", BigInteger, primary_key=True, autoincrement=False),
    Column("longest", BigInteger, nullable=False),
    Column("last_at", BigInteger, nullable=False),
)

# Which ways brought the events of an hour (hours since 1970), by when the grace was over.
comparisons = Table(
    "comparisons",
    metadata,
    Column("hour", BigInteger, primary_key=True, autoincrement=False),
    Column("source", Text, primary_key=True),
    Column("modes", Text, primary_key=True),
    Column("events", BigInteger, nullable=False),
)

# How long arrivals of an hour were on their way: `bucket` is a step of storage/books/transits.py.
transits = Table(
    "transits",
    metadata,
    Column("hour", BigInteger, primary_key=True, autoincrement=False),
    Column("source", Text, primary_key=True),
    Column("mode", Text, primary_key=True),
    Column("bucket", Integer, primary_key=True, autoincrement=False),
    Column("events", BigInteger, nullable=False),
)
