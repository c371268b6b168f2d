"""How many events each block of 4,096 positions holds by source and mode, and a sum of their ids, in any order.

Posted when they are committed, and taken off again when they expire: a row that is lost, added or changed shows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from sqlalchemy import Connection, delete

from storage import bulk
from storage.tables import BLOCK_BITS, blocks

_COLUMNS = ("block", "source", "mode", "events", "checksum")
_ADD_UP = (
    "ON CONFLICT (block, source, mode) DO UPDATE SET"
    " events = blocks.events + excluded.events, checksum = blocks.checksum + excluded.checksum"
)
_SUM = "sum(('x' || right(id::text, 12))::bit(48)::bigint)::bigint"  # in PostgreSQL's words
_LAST_48_BITS = (1 << 48) - 1
_WITHIN = """
SELECT position, CAST(substr(id, 11) AS BLOB), source, mode FROM events WHERE position >= ? AND position <= ?
"""
_SUMS_WITHIN = f"""
SELECT position >> {BLOCK_BITS}, source, mode, count(*), {_SUM}
FROM events WHERE position >= $1 AND position <= $2 GROUP BY 1, 2, 3
"""  # noqa: S608 - no values in it
_ENDS = "SELECT position, substr(uuid_send(id), 11) FROM events WHERE position >= $1 AND position <= $2"

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


def sums_within(connection: Connection, first: int, last: int) -> BlockSums:
    """Return the sums of the events from one position up to another, as they are now."""
    if connection.dialect.name == "postgresql":
        rows = bulk.run(connection, _SUMS_WITHIN, (first, last))
        return {(block, source, mode): (count, total) for block, source, mode, count, total in rows}
    found = bulk.run(connection, _WITHIN, (first, last))
    return sums_of((position, int.from_bytes(tail, "big"), source, mode) for position, tail, source, mode in found)


def ends_within(connection: Connection, first: int, last: int) -> dict[int, int]:
    """Return the last 48 bits of the ids of the events from one position up to another, by position."""
    if connection.dialect.name == "postgresql":
        return {position: int.from_bytes(end, "big") for position, end in bulk.run(connection, _ENDS, (first, last))}
    return {position: int.from_bytes(end, "big") for position, end, *_ in bulk.run(connection, _WITHIN, (first, last))}


def post(connection: Connection, after: int, end: int) -> None:
    """Add the events behind `after` up to `end`."""
    add(connection, sums_within(connection, after + 1, end))
