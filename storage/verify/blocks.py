"""The events themselves against the books: how many each block of 4,096 positions has, and the sum of their ids."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection, func, select

from storage.books.checksums import BlockKey, BlockSums, ends_within, sums_within
from storage.tables import BLOCK_BITS, blocks, events
from storage.verify.finding import Finding, Looked, named, rows_at
from storage.verify.totals import place_of

_AT_ONCE = 8  # blocks
_NOTHING = (0, 0)

Sum = tuple[int, int]  # how many events, and the sum of their ids


def look(connection: Connection, after: int, count: int = _AT_ONCE) -> Looked[int]:
    """Compare the next `count` blocks, from the first one on that is there behind `after`; events are counted."""
    place = place_of(connection)
    begin = _next_block(connection, after + 1, place)
    if begin is None:
        return Looked(0, (), None)
    end = begin + count
    posted = _posted(connection, begin, end)
    stored = sums_within(connection, begin << BLOCK_BITS, min((end << BLOCK_BITS) - 1, place))
    findings = list(_differences(connection, stored, posted, place))
    return Looked(sum(events for events, _ in stored.values()), findings, end - 1)


def newest(connection: Connection) -> int | None:
    """Return the last block that is posted as a whole; None where there is none."""
    whole = (place_of(connection) + 1 >> BLOCK_BITS) - 1
    query = select(func.max(blocks.c.block)).where(blocks.c.block <= whole)
    newest: int | None = connection.execute(query).scalar()
    return newest


def _next_block(connection: Connection, first: int, place: int) -> int | None:
    """Return the first block, from that one on, that is in the books or has events up to `place`."""
    start = first << BLOCK_BITS
    event = select(func.min(events.c.position)).where(events.c.position >= start, events.c.position <= place)
    posted = select(func.min(blocks.c.block)).where(blocks.c.block >= first)
    position, block = connection.execute(event).scalar(), connection.execute(posted).scalar()
    found = [number for number in (block, None if position is None else position >> BLOCK_BITS) if number is not None]
    return min(found, default=None)


def _posted(connection: Connection, first: int, end: int) -> BlockSums:
    rows = connection.execute(select(blocks).where(blocks.c.block >= first, blocks.c.block < end))
    return {(row.block, row.source, row.mode): (row.events, row.checksum) for row in rows}


def _differences(connection: Connection, stored: BlockSums, posted: BlockSums, place: int) -> Iterator[Finding]:
    for key in sorted(stored.keys() | posted.keys()):
        found, expected = stored.get(key, _NOTHING), posted.get(key, _NOTHING)
        if found != expected:
            yield _difference(connection, key, found, expected, place)


def _difference(connection: Connection, key: BlockKey, found: Sum, expected: Sum, place: int) -> Finding:
    block, source, mode = key
    first, last = max(block << BLOCK_BITS, 1), (block + 1 << BLOCK_BITS) - 1
    in_block = select(blocks.c.events).where(blocks.c.block == block)
    return Finding(
        check="blocks",
        source=source,
        mode=mode,
        block=block,
        first=first,
        last=last,
        expected=expected[0],
        found=found[0],
        difference=found[0] - expected[0] or 1,
        look_at=_look_at(
            connection,
            range(first, min(last, place) + 1),
            found[0] - expected[0],
            found[1] - expected[1],
            was_whole=sum(connection.execute(in_block).scalars()) == min(last, place) - first + 1,
        ),
    )


def _look_at(connection: Connection, within: range, more: int, checksum: int, *, was_whole: bool) -> str:
    """Return which rows it can be, of a block: `more` events than expected, and by how much their ids' sum differs.

    Where nothing of the block has expired, what is missing is what is not there. A single event is known by its id.
    """
    there = ends_within(connection, within.start, within.stop - 1)
    holes = sorted(set(within).difference(there))
    single = [position for position, end in there.items() if end == abs(checksum)]
    all_of_it = f"events WHERE position BETWEEN {within.start} AND {within.stop - 1}"
    if more and not checksum:
        return f"blocks WHERE block = {within.start >> BLOCK_BITS}: the ids are right, and their number is not"
    if abs(more) == 1 and single:
        return rows_at("events", single) + ("" if more > 0 else ": it came another way")
    if more < 0 and was_whole and holes:
        return f"not there: {named(holes)}"
    if more == -1:
        return f"{all_of_it}: one is not there whose id ends in {-checksum:012x}"
    return all_of_it if more else f"{all_of_it}: as many as expected, with other ids"
