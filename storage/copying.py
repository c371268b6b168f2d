"""A SQLite store copied to PostgreSQL, as it is: positions, cursors, gaps, tallies, dead letters keep their meaning.

Table after table by a whole number that each row has, in transactions of a page each, so that what is there already
says where to go on. Whole rows are compared at the end. Memory is bounded by a page.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Column, Connection, Integer, LargeBinary, Table, Text, func, literal, not_, select

from ingest.errors import HeadraceError
from storage import bulk, partitions
from storage.clock import database_now
from storage.database import Database
from storage.tables import (
    batches,
    coverage,
    cursors,
    events,
    head,
    ids,
    leases,
    metadata,
    replicas,
    stream_opens,
    writers,
)

_NOT_COPIED = frozenset({head, writers, batches, ids, leases, replicas, stream_opens})  # derived, or of processes
_PAGE_ROWS = 2000
_PAGE_BYTES = 8 * 1024 * 1024
_ALIVE_MICROS = 5_000_000  # coverage is extended every second
_MARK = "headrace copy"  # in `batches`, until all is copied and compared
_MODULUS = 1 << 64
_PAGE_IDS = 10_000
_AT_ID, _AT_POSITION = (list(events.c.keys()).index(name) for name in ("id", "position"))

Row = tuple[Any, ...]


class CopyRefused(HeadraceError):
    """The copy cannot be made, or not now; nothing was changed."""


class Compared(NamedTuple):
    """A table as it is on both sides: rows, and a sum over all of each that is the same in any order."""

    table: str
    source_rows: int
    target_rows: int
    source_sum: int
    target_sum: int
    first_difference: int | None  # the key from which on they differ, about

    @property
    def equal(self) -> bool:
        """Return whether both sides hold the same."""
        return (self.source_rows, self.source_sum) == (self.target_rows, self.target_sum)


def copied_tables() -> list[Table]:
    """Return what is copied, the cursors last: before them no handler begins."""
    tables = [table for table in metadata.sorted_tables if table not in _NOT_COPIED]
    return sorted(tables, key=lambda table: (table is cursors, table.name))


async def begin(source: Database, target: Database, name: str) -> int:
    """Return how many rows there are to copy; `name` tells the source from others.

    Raises CopyRefused where a server runs on either, or the target holds anything but a copy of this source.
    """
    for database, which in ((source, "--from"), (target, "--to")):
        if await database.read(_in_use):
            raise CopyRefused(f"{which}: a server runs on this store, or did seconds ago: stop it first")
    position = await source.read(_last_position)
    await target.write(_mark, f"{_MARK} of {name}", position)
    await target.alter(_make_partitions, position)
    return sum(await source.read(_counts))


async def copy(source: Database, target: Database, tell: Callable[[str, int], None]) -> None:
    """Copy what is not there yet. `tell` is given a table's name and how many more of its rows are there."""
    for table in copied_tables():
        after = await target.read(_last_key, table)
        done = await target.alter(_count, table)  # which may take longer than a read may
        tell(table.name, done)
        if (key := _key(table)) is None:
            if not done:
                few = await source.read(_rows, table, None, None, None)
                await target.write(_insert, table, few)
                tell(table.name, len(few))
            continue
        async for _, rows in _pages(source, table, key, after):
            await target.write(_insert, table, rows)
            tell(table.name, len(rows))


async def compare(source: Database, target: Database, tell: Callable[[str, int], None]) -> Sequence[Compared]:
    """Compare whole rows of both sides, page by page of the source."""
    compared = [await _compare_table(source, target, table, tell) for table in copied_tables()]
    return [*compared, await _compare_ids(source, target)]


async def finish(source: Database, target: Database) -> None:
    """Let new rows of the target go on behind those of the source, and forget that this is a copy."""
    await target.write(_finish, await source.read(_sequences))


async def _compare_table(
    source: Database, target: Database, table: Table, tell: Callable[[str, int], None]
) -> Compared:
    key = _key(table)
    if key is None:
        ours = await source.read(_rows, table, None, None, None)
        theirs = await target.read(_rows, table, None, None, None)
        return Compared(table.name, len(ours), len(theirs), _sum(ours), _sum(theirs), None)
    rows = found = ours_sum = theirs_sum = 0
    last, different = None, None
    async for upto, page in _pages(source, table, key, None):
        there = await target.read(_rows, table, key, last, upto)
        sums = _sum(page), _sum(there)
        if different is None and sums[0] != sums[1]:
            different = int(page[0][list(table.columns).index(key)])
        rows, found = rows + len(page), found + len(there)
        ours_sum, theirs_sum = (ours_sum + sums[0]) % _MODULUS, (theirs_sum + sums[1]) % _MODULUS
        last = upto
        tell(table.name, len(page))
    beyond = await target.alter(_count, table) - found
    if beyond and different is None:
        different = None if last is None else last + 1
    return Compared(table.name, rows, found + beyond, ours_sum, theirs_sum, different)


async def _compare_ids(source: Database, target: Database) -> Compared:
    """Compare the source's ids and positions with those by which the target knows an event again."""
    count = found = ours = theirs = 0
    async for upto, page in _pages(source, events, events.c.position, None):
        del upto
        known = [(row[_AT_ID], row[_AT_POSITION]) for row in page]
        count, ours = count + len(known), (ours + _sum(known)) % _MODULUS
    last = None
    while some := await target.read(_ids_after, last):
        last = some[-1][0]
        found, theirs = found + len(some), (theirs + _sum(some)) % _MODULUS
    return Compared("ids", count, found, ours, theirs, None)


async def _pages(
    source: Database, table: Table, key: Column[int], after: int | None
) -> AsyncIterator[tuple[int, Sequence[Row]]]:
    """Yield the last key of each page, and its rows. All rows of one key are in one page."""
    while (upto := await source.read(_page_end, table, key, after)) is not None:
        yield upto, await source.read(_rows, table, key, after, upto)
        after = upto


def _key(table: Table) -> Column[int] | None:
    """Return the whole number by which a table is read in pages, in its key or alone in an index; None of few rows."""
    alone = [next(iter(index.columns)) for index in table.indexes if len(index.columns) == 1]
    return next((column for column in (*table.primary_key, *alone) if isinstance(column.type, Integer)), None)


def _page_end(connection: Connection, table: Table, key: Column[int], after: int | None) -> int | None:
    """Return the last key of the next page of about 2,000 rows and 8 MiB; None where there is none."""
    heavy = [func.coalesce(func.length(column), 0) for column in table.columns if isinstance(column.type, LargeBinary)]
    weights = select(key, sum(heavy, literal(0))).order_by(key).limit(_PAGE_ROWS)
    last, taken = None, 0
    for at, weight in connection.execute(weights if after is None else weights.where(key > after)):
        if last is not None and at != last and taken + weight > _PAGE_BYTES:
            break
        last, taken = at, taken + weight
    return last


def _rows(
    connection: Connection, table: Table, key: Column[int] | None, after: int | None, upto: int | None
) -> list[Row]:
    """Return rows as both databases can hold them: PostgreSQL has no NUL in a text."""
    query = select(table)
    if key is not None and after is not None:
        query = query.where(key > after)
    if key is not None and upto is not None:
        query = query.where(key <= upto)
    texts = [place for place, column in enumerate(table.columns) if isinstance(column.type, Text)]
    return [_without_nul(tuple(row), texts) for row in connection.execute(query)]


def _without_nul(row: Row, texts: Sequence[int]) -> Row:
    if not any(row[place] and "\0" in row[place] for place in texts):
        return row
    return tuple(value.replace("\0", "\ufffd") if isinstance(value, str) else value for value in row)


def _insert(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    if table is events:
        _insert_events(connection, rows)
    else:
        bulk.insert(connection, table, tuple(column.name for column in table.columns), rows)


def _insert_events(connection: Connection, rows: Sequence[Row]) -> None:
    columns = tuple(column.name for column in events.columns)
    bulk.insert_all(connection, bulk.event_inserts(connection, columns, rows))


def _ids_after(connection: Connection, last: UUID | None) -> list[Row]:
    query = select(ids.c.id, ids.c.position).order_by(ids.c.id).limit(_PAGE_IDS)
    return [tuple(row) for row in connection.execute(query if last is None else query.where(ids.c.id > last))]


def _make_partitions(connection: Connection, position: int) -> None:
    """Make what holds the positions up to the source's last one, in about thirty partitions."""
    partitions.lock(connection)
    end = partitions.attached(connection)[-1].end
    size = min(max(1 << (position // 32).bit_length(), partitions.SMALLEST), partitions.LARGEST)
    while end <= position:
        partitions.add(connection, partitions.Partition(f"events_p{end}", end, end + size))
        end += size


def _sum(rows: Sequence[Row]) -> int:
    """Return a sum over rows that is the same in any order."""
    return sum(map(hash, rows)) % _MODULUS


def _in_use(connection: Connection) -> bool:
    """Return whether a process lives, a handler's lease holds, or a source was listening a moment ago."""
    now = database_now(connection)
    leased = select(func.count()).where(cursors.c.holder.is_not(None), cursors.c.expires_at > now)
    listening = select(func.count()).where(not_(coverage.c.ended), coverage.c.until > now - _ALIVE_MICROS)
    living = select(func.count()).where(replicas.c.expires_at > now)
    return any(connection.execute(query).scalar_one() for query in (leased, listening, living))


def _mark(connection: Connection, name: str, position: int) -> None:
    """Note in an empty target that it is to become a copy, and let nothing be given a position of the source."""
    names = connection.execute(select(batches.c.writer).where(batches.c.writer.startswith(_MARK))).scalars().all()
    if names and names != [name]:
        raise CopyRefused(f"--to: this database has the beginning of a copy of another store ({names[0]})")
    if names:
        return
    for table in copied_tables():
        if connection.execute(select(func.count()).select_from(select(table).limit(1).subquery())).scalar_one():
            raise CopyRefused(f"--to: expected an empty database, but its table {table.name} is not: make a new one")
    connection.execute(batches.insert().values(writer=name, batch=position, committed_at=database_now(connection)))
    connection.execute(head.update().values(position=position))


def _finish(connection: Connection, sequences: dict[str, int]) -> None:
    for table, last in sequences.items():
        following = f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), {last + 1}, false)"
        connection.exec_driver_sql(following)
    connection.execute(batches.delete().where(batches.c.writer.startswith(_MARK)))


def _sequences(connection: Connection) -> dict[str, int]:
    """Return the last number that each table gave, also where its row is gone."""
    given: dict[str, int] = dict(bulk.run(connection, "SELECT name, seq FROM sqlite_sequence"))
    last = {}
    for table in copied_tables():
        column = table.autoincrement_column
        if column is not None:
            highest = connection.execute(select(func.max(column))).scalar_one() or 0
            last[table.name] = max(highest, given.get(table.name, 0))
    return last


def _last_position(connection: Connection) -> int:
    return int(connection.execute(select(func.max(head.c.position))).scalar_one())


def _last_key(connection: Connection, table: Table) -> int | None:
    key = _key(table)
    return None if key is None else connection.execute(select(func.max(key))).scalar_one()


def _count(connection: Connection, table: Table) -> int:
    return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


def _counts(connection: Connection) -> list[int]:
    return [_count(connection, table) for table in copied_tables()]
