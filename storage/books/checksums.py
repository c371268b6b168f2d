"""How many events each block of 4,096 positions holds by source and mode, and a sum of their ids, in any order.

Posted when they are committed, and taken off again when they expire: a row that is lost, added or changed shows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from sqlalchemy import Connection, delete, select

from storage import bulk
from storage.tables import BLOCK_BITS, blocks, events

_COLUMNS = ("block", "source", "mode", "events", "checksum")
_ADD_UP = (
    "ON CONFLICT (block, source, mode) DO UPDATE SET"
    " events = blocks.events + excluded.events, checksum = blocks.checksum + excluded.checksum"
)
SUM = "sum(('x' || right(id::text, 12))::bit(48)::bigint)::bigint"  # in PostgreSQL's words
_POST = f"""
INSERT INTO blocks (block, source, mode, events, checksum)
SELECT position >> {BLOCK_BITS}, source, mode, count(*), {SUM} FROM events
WHERE position > $1 AND position <= $2 GROUP BY 1, 2, 3 {_ADD_UP}
"""  # noqa: S608 - no values in it
_LAST_48_BITS = (1 << 48) - 1

BlockKey = tuple[int, str, str]  # block, source and mode
BlockSums = dict[BlockKey, tuple[int, int]]  # how many events, and the sum of their ids


def sums_of(rows: Iterable[tuple[int, int, str, str]]) -> BlockSums:
    """Return the sums of rows of position, id as a number, source and mode."""
    counts: Counter[BlockKey] = Counter()
    sums: Counter[BlockKey] = Counter()
    for position, id_, source, mode in rows:
        key = (position >> BLOCK_BITS, source, mode)
        counts[key] += 1
        sums[key] += id_ & _LAST_48_BITS
    return {key: (count, sums[key]) for key, count in counts.items()}


def add(connection: Connection, sums: BlockSums) -> None:
    """Add to what the books say of blocks."""
    rows = [(*key, count, checksum) for key, (count, checksum) in sorted(sums.items())]
    bulk.insert(connection, blocks, _COLUMNS, rows, _ADD_UP)


def take_off(connection: Connection, sums: BlockSums) -> None:
    """Take off what expired."""
    add(connection, {key: (-count, -checksum) for key, (count, checksum) in sums.items()})
    numbers = sorted({block for block, _, _ in sums})
    connection.execute(delete(blocks).where(blocks.c.block.in_(numbers), blocks.c.events == 0, blocks.c.checksum == 0))


def post(connection: Connection, after: int, end: int) -> None:
    """Add the events behind `after` up to `end`."""
    if connection.dialect.name == "postgresql":
        bulk.run(connection, _POST, (after, end))
        return
    within = (events.c.position > after, events.c.position <= end)
    rows = connection.execute(select(events.c.position, events.c.id, events.c.source, events.c.mode).where(*within))
    add(connection, sums_of((position, id_.int, source, mode) for position, id_, source, mode in rows))
