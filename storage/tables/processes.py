"""The processes that share a store, and what each of them does."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, Table, Text, false

from storage.tables.base import Position, metadata

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
