"""The partitions of events on PostgreSQL: made ahead of the head, taken out as a whole when they are old.

`events_p<first>` holds a range of positions. `events_kept_<end>` holds what was needed longer of all that lay below
`end`: dead letters, retries, dates in the future. A partition that was taken out is a table by itself until its ids
are forgotten. The catalogue is the only record of them.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from sqlalchemy import Connection, func, select

from storage import bulk
from storage.tables import LAST_POSITION, events
from storage.transactions import transaction

SMALLEST, LARGEST = 1 << 20, 1 << 26  # rows
_AHEAD = 2  # partitions behind the one that is being filled
_DAY = 86_400_000_000
_SEEN = 4  # partitions that tell how much a day brings: the next ones are at most as many times as large
_LOCK = 0x4865_6164_7261_6364  # whoever makes or takes out partitions takes turns
_ATTACHED = """
SELECT relname, pg_get_expr(relpartbound, pg_class.oid), EXISTS (SELECT FROM pg_class AS other
WHERE other.relname = 'ix_' || pg_class.relname || '_device' AND other.relnamespace = pg_class.relnamespace)
FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid WHERE inhparent = 'events'::regclass
"""
_TAKEN_OUT = """
SELECT relname FROM pg_class WHERE relkind = 'r' AND NOT relispartition AND relname ~ '^events_(p|kept_)[0-9]+$'
AND relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'events'::regclass) ORDER BY relname
"""
_BOUND = re.compile(r"FROM \((?:MINVALUE|'(\d+)')\) TO \('(\d+)'\)")


class Partition(NamedTuple):
    """A partition with the positions from `first` up to `end`, which is the next one's.

    `by_device`: it has an index by device (storage/by_device.py).
    """

    name: str
    first: int
    end: int
    by_device: bool = False

    @property
    def keeps(self) -> bool:
        """Return whether it is the one for what is needed longer."""
        return self.first == 0


class Filled(NamedTuple):
    """A partition that gets no more rows, and when its first and last one came, in microseconds; None without any."""

    partition: Partition
    first_at: int | None
    last_at: int | None

    @property
    def took(self) -> int:
        """Return the microseconds in which it was filled."""
        return 0 if self.first_at is None or self.last_at is None else self.last_at - self.first_at


def lock(connection: Connection) -> None:
    """Wait for who else makes or takes out partitions, until this transaction ends."""
    bulk.run(connection, f"SELECT pg_advisory_xact_lock({_LOCK})")


def attached(connection: Connection) -> list[Partition]:
    """Return the partitions in order; the one for what is kept is the first."""
    found = []
    for name, bound, by_device in bulk.run(connection, _ATTACHED):
        match = _BOUND.search(bound)
        assert match is not None, bound  # noqa: S101 - of our own making
        found.append(Partition(name, int(match[1] or 0), int(match[2]), by_device))
    return sorted(found, key=lambda partition: partition.first)


def taken_out(connection: Connection) -> list[str]:
    """Return the names of the tables that were partitions."""
    return [name for (name,) in bulk.run(connection, _TAKEN_OUT)]


def filled(connection: Connection) -> tuple[Partition, list[Filled]]:
    """Return the partition for what is kept, and those behind it that get no more rows."""
    last = connection.execute(LAST_POSITION).scalar_one()
    kept, *others = attached(connection)
    return kept, [_filled(connection, partition) for partition in others if partition.end <= last + 1]


def _filled(connection: Connection, partition: Partition) -> Filled:
    within = select(events.c.received_at).where(events.c.position >= partition.first, events.c.position < partition.end)
    ends = (within.order_by(order).limit(1) for order in (events.c.position, events.c.position.desc()))
    first, last = (connection.execute(end).scalar() for end in ends)
    return Filled(partition, first, last)


@transaction
def make_ahead(connection: Connection, now: int) -> int:
    """Make the partitions that the head will need; return how many. `now` in microseconds.

    Nobody waits for it: a table that is attached takes a lock that lets all others read and write.
    """
    lock(connection)
    last, partitions = connection.execute(LAST_POSITION).scalar_one(), attached(connection)
    missing = _AHEAD - sum(partition.first > last + 1 for partition in partitions)
    size = _fitting_size(connection, partitions, last, now) if missing > 0 else 0
    end = partitions[-1].end
    made = [Partition(f"events_p{first}", first, first + size) for first in range(end, end + missing * size, size or 1)]
    for partition in made:
        add(connection, partition)
    return len(made)


def add(connection: Connection, partition: Partition) -> None:
    """Make a partition and attach it."""
    bulk.run(connection, f"CREATE TABLE {partition.name} (LIKE events INCLUDING ALL)")
    bounds = f"FROM ({partition.first or 'MINVALUE'}) TO ({partition.end})"
    bulk.run(connection, f"ALTER TABLE events ATTACH PARTITION {partition.name} FOR VALUES {bounds}")


def _fitting_size(connection: Connection, partitions: list[Partition], last: int, now: int) -> int:
    """Return how many rows a day brings, as a power of two: a query looks at each partition, so they are not many."""
    begun = [partition for partition in partitions[1:] if partition.first <= last][-_SEEN:]
    if not begun:
        return SMALLEST
    oldest = select(func.min(events.c.received_at)).where(
        events.c.position >= begun[0].first, events.c.position < begun[0].first + 1000
    )
    since = connection.execute(oldest).scalar() or now
    a_day = (last - begun[0].first) * _DAY // max(now - since, _DAY)
    return min(max(1 << int(a_day).bit_length() >> 1, SMALLEST), LARGEST)
