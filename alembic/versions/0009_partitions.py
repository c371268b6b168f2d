"""On PostgreSQL events lie in partitions by position and their ids beside them; SQLite stays as it is.

A server of an older version that is still running commits nothing from here on: it does not know `ids`, so its events
could be stored twice. Where it writes its batch (`writers`) is now a view that takes no rows (SQLSTATE 55000), which it
calls an outage: senders hear 503 and send again, to a server of this version. It reads and hands on as before.

The table that was there becomes the first partition. It is read twice, and locked meanwhile: to check its positions
and to list its ids.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_ROWS = 1 << 20  # of a partition
_AHEAD = 2
_INDEXES = ("pk_events", "ix_events_block_device")
_NOBODY_WRITES_HERE = """
CREATE VIEW writers AS SELECT writer, batch, committed_at FROM batches LIMIT 0
"""


def upgrade() -> None:
    """Put what there is into the first partition, and make some ahead."""
    if op.get_bind().dialect.name != "postgresql":
        return
    op.execute("ALTER TABLE events RENAME TO events_p1")
    for index in _INDEXES:
        op.execute(f"ALTER INDEX {index} RENAME TO {index.replace('events', 'events_p1')}")
    op.execute("CREATE TABLE events (LIKE events_p1 INCLUDING DEFAULTS) PARTITION BY RANGE (position)")
    op.execute("ALTER TABLE events ADD CONSTRAINT pk_events PRIMARY KEY (position)")
    op.create_index("ix_events_block_device", "events", [sa.text("(position >> 12)"), "device"])
    last = op.get_bind().execute(sa.text("SELECT position FROM head")).scalar_one()
    end = (last // _ROWS + 1) * _ROWS
    op.execute(f"ALTER TABLE events ATTACH PARTITION events_p1 FOR VALUES FROM (1) TO ({end})")
    op.execute("CREATE TABLE events_kept_1 PARTITION OF events FOR VALUES FROM (MINVALUE) TO (1)")
    for first in range(end, end + _AHEAD * _ROWS, _ROWS):
        op.execute(f"CREATE TABLE events_p{first} PARTITION OF events FOR VALUES FROM ({first}) TO ({first + _ROWS})")
    op.execute("CREATE TABLE ids AS SELECT id, position FROM events_p1")
    op.execute("ALTER TABLE ids ALTER id SET NOT NULL, ALTER position SET NOT NULL")
    op.execute("ALTER TABLE ids ADD CONSTRAINT pk_ids PRIMARY KEY (id)")
    op.execute("DROP INDEX uq_events_id")
    op.execute("ANALYZE ids")
    op.execute("ALTER TABLE head DROP CONSTRAINT pk_head, ADD CONSTRAINT pk_head PRIMARY KEY (position)")
    op.execute("ALTER TABLE writers RENAME TO batches")
    op.execute("ALTER TABLE batches RENAME CONSTRAINT pk_writers TO pk_batches")
    op.execute(_NOBODY_WRITES_HERE)


def downgrade() -> None:
    """Gather all events in one table again."""
    if op.get_bind().dialect.name != "postgresql":
        return
    op.execute("DROP VIEW writers")
    op.execute("ALTER TABLE batches RENAME TO writers")
    op.execute("ALTER TABLE writers RENAME CONSTRAINT pk_batches TO pk_writers")
    op.execute("ALTER TABLE head DROP CONSTRAINT pk_head, ADD CONSTRAINT pk_head PRIMARY KEY (id)")
    op.execute("CREATE TABLE events_again (LIKE events INCLUDING DEFAULTS)")
    op.execute("INSERT INTO events_again SELECT * FROM events")
    left = "SELECT relname FROM pg_class WHERE relnamespace = (SELECT relnamespace FROM pg_class WHERE oid ="
    left += " 'events'::regclass) AND relkind = 'r' AND relname ~ '^events_(p|kept_)[0-9]+$'"
    names = op.get_bind().execute(sa.text(left)).scalars().all()
    op.execute("DROP TABLE events")
    for name in names:  # those that were taken out and not emptied yet
        op.execute(f"DROP TABLE IF EXISTS {name}")
    op.execute("DROP TABLE ids")
    op.execute("ALTER TABLE events_again RENAME TO events")
    op.execute("ALTER TABLE events ADD CONSTRAINT pk_events PRIMARY KEY (position)")
    op.create_index("uq_events_id", "events", ["id"], unique=True)
    op.create_index("ix_events_block_device", "events", [sa.text("(position >> 12)"), "device"])
