"""An index by device for each of PostgreSQL's partitions that gets no more rows.

While a partition is filled it has one by block and device, which a commit can afford (storage/tables/events.py); there
a device is looked for in each block. A thousand blocks later that takes a tenth of a second: so a partition that is
full gets one by device alone, which takes a second or two and holds up nobody who commits.
"""

from __future__ import annotations

from itertools import takewhile

from sqlalchemy import Connection

from storage import bulk
from storage.partitions import Partition, attached
from storage.tables import LAST_POSITION
from storage.transactions import transaction


def lacking(connection: Connection) -> list[Partition]:
    """Return the partitions that get no more rows and have no such index, in order."""
    last = connection.execute(LAST_POSITION).scalar_one()
    return [one for one in attached(connection) if one.end <= last + 1 and not one.by_device]


@transaction
def add_index(connection: Connection, partition: Partition) -> None:
    """Add it, if the partition is still there."""
    if partition in attached(connection):  # and without it
        index(connection, partition.name)


def index(connection: Connection, table: str) -> None:
    """Make the index of a table with events."""
    bulk.run(connection, f"CREATE INDEX IF NOT EXISTS ix_{table}_device ON {table} (device, position)")


def indexed_before(connection: Connection) -> int:
    """Return the position before which every event is in a partition with such an index; 0 on SQLite."""
    if connection.dialect.name == "sqlite":
        return 0
    before = 0
    for partition in takewhile(lambda one: one.by_device, attached(connection)):
        before = partition.end
    return before
