"""Retention on PostgreSQL, where a partition is old as a whole: it is taken out, and then forgotten in small steps.

In one transaction: what is needed longer is copied, all else is tallied as expired, and only then the tables change
places, under a lock for which nobody behind it waits long.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, func, or_, select

from storage import bulk, by_device, skips
from storage.books import BOOKS, checksums
from storage.books.place import take_place
from storage.database import sqlstate_of
from storage.partitions import Partition, attached, lock
from storage.store import ADD_UP, TALLY_COLUMNS
from storage.tables import cursors, events, tallies
from storage.transactions import transaction

# Whoever wants the table queues behind us while we wait for it, and who froze while having it is cut off.
_HURRY = (
    "SELECT set_config('lock_timeout', '25ms', true), set_config('idle_in_transaction_session_timeout', '2s', true)"
)
_TRIES = 20
_LONGEST_PAUSE_SECONDS = 0.2
_LOCK_NOT_AVAILABLE = "55P03"
_STEP_ROWS = 1000
# What goes is what was not kept: whether something is parked may change while a partition is taken out.
_GOES = """
SELECT position >> 12, source, mode, count(*), count(*) FILTER (WHERE position <= $1),
    coalesce(sum(('x' || right(id::text, 12))::bit(48)::bigint) FILTER (WHERE position <= $1), 0)::bigint
FROM {name} AS event WHERE NOT EXISTS (SELECT FROM {kept} AS kept WHERE kept.position = event.position) GROUP BY 1, 2, 3
"""
_KEEP = "INSERT INTO {kept} SELECT * FROM {name} AS event WHERE received_at >= $1 OR {parked}"
_PARKED = "EXISTS (SELECT FROM deliveries WHERE deliveries.position = event.position)"
_FORGET_IDS = """
DELETE FROM ids USING unnest($1::UUID[], $2::BIGINT[]) AS gone (id, position)
WHERE ids.id = gone.id AND ids.position = gone.position
"""
_FORGET_SIGHTINGS = "DELETE FROM sightings WHERE position = ANY($1::BIGINT[])"
_FORGET_MESSAGES = "DELETE FROM messages WHERE position = ANY($1::BIGINT[])"


class TakenOut(NamedTuple):
    """How many events went with a partition, and how many of those paused handlers never had, by handler."""

    gone: int
    skipped: Mapping[str, int]


def passed(connection: Connection, handlers: tuple[str, ...], before: int) -> int:
    """Return up to where all handlers are that are not paused since `before`."""
    waits = (cursors.c.handler.in_(handlers), or_(cursors.c.paused_at.is_(None), cursors.c.paused_at >= before))
    position: int | None = connection.execute(select(func.min(cursors.c.position)).where(*waits)).scalar()
    return 2**62 if position is None else position


@transaction
def take_out(
    connection: Connection, whole: Partition, before: int, now: int, handlers: tuple[str, ...]
) -> TakenOut | None:
    """Take the oldest partition out of events; None where somebody did so before. Times are in microseconds.

    Raises the driver's error of SQLSTATE 55P03, with nothing done, where others read and write too busily.
    """
    lock(connection)
    kept, oldest, *_ = attached(connection)
    if oldest.name != whole.name or passed(connection, handlers, before) < whole.end - 1:
        return None
    more = Partition(f"events_kept_{whole.end}", 0, whole.end)
    bulk.run(
        connection, f"CREATE TABLE {more.name} (LIKE events INCLUDING ALL, CHECK (position < {whole.end}::BIGINT))"
    )
    bulk.run(connection, f"INSERT INTO {more.name} SELECT * FROM {kept.name}")  # noqa: S608 - names
    bulk.run(connection, _KEEP.format(kept=more.name, name=whole.name, parked=_PARKED), (before,))
    by_device.index(connection, more.name)
    posted = take_place(connection, BOOKS)
    gone, sums = Counter[tuple[str, str]](), checksums.BlockSums()
    goes = bulk.run(connection, _GOES.format(name=whole.name, kept=more.name), (posted,))
    for block, source, mode, count, in_books, total in goes:
        gone[source, mode] += count
        sums[block, source, mode] = (in_books, total)
    expired = [(source, mode, now // 60_000_000, "expired", count) for (source, mode), count in sorted(gone.items())]
    bulk.insert(connection, tallies, TALLY_COLUMNS, expired, ADD_UP)
    checksums.take_off(connection, {key: of for key, of in sums.items() if of[0]})
    skipped = skips.note_stretch(connection, handlers, whole.first, whole.end, more.name)
    _exchange(connection, kept, whole, more)
    return TakenOut(gone.total(), skipped)


def _exchange(connection: Connection, kept: Partition, whole: Partition, more: Partition) -> None:
    """Put `more` in the place of both others; try again where a lock is not to be had."""
    for missing in reversed(range(_TRIES)):
        trying = connection.begin_nested()
        try:
            bulk.run(connection, _HURRY)
            bulk.run(connection, f"LOCK TABLE {whole.name}, {kept.name} IN ACCESS EXCLUSIVE MODE")
            bulk.run(connection, "LOCK TABLE ONLY events IN ACCESS EXCLUSIVE MODE")
        except Exception as error:
            trying.rollback()
            if sqlstate_of(error) != _LOCK_NOT_AVAILABLE or not missing:
                raise
            pause = random.uniform(0, _LONGEST_PAUSE_SECONDS)  # noqa: S311 - so that others get their turn
            bulk.run(connection, f"SELECT pg_sleep({pause})")
        else:
            break
    for table in (whole, kept):
        bulk.run(connection, f"ALTER TABLE events DETACH PARTITION {table.name}")
    bulk.run(connection, f"ALTER TABLE events ATTACH PARTITION {more.name} FOR VALUES FROM (MINVALUE) TO ({more.end})")


@transaction
def forget_some(connection: Connection, name: str, after: int) -> int:
    """Forget the ids, sightings and messages of some events of a table that was taken out.

    Return the last of them, 0 where all are forgotten: then the table goes.
    """
    lock(connection)
    if not bulk.run(connection, "SELECT 1 WHERE to_regclass($1) IS NOT NULL", (name,)):
        return 0
    rows = _some_of(connection, name, after)
    if not rows:
        bulk.run(connection, f"DROP TABLE {name}")
        return 0
    last: int = rows[-1][1]
    kept = select(events.c.position).where(events.c.position > after, events.c.position <= last)
    stay = set(connection.execute(kept).scalars())
    gone = [(id_, position) for id_, position in rows if position not in stay]
    positions = [position for _, position in gone]
    bulk.run(connection, _FORGET_IDS, ([id_ for id_, _ in gone], positions))
    bulk.run(connection, _FORGET_SIGHTINGS, (positions,))
    bulk.run(connection, _FORGET_MESSAGES, (positions,))
    return last


def _some_of(connection: Connection, name: str, after: int) -> Sequence[Any]:
    """Return ids and positions; none of what was kept, which went on to another table."""
    if name.startswith("events_kept_"):
        return ()
    some = f"SELECT id, position FROM {name} WHERE position > $1 ORDER BY position LIMIT {_STEP_ROWS}"  # noqa: S608
    return bulk.run(connection, some, (after,))
