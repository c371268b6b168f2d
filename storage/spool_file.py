"""The file of a spool: records in the order of their arrival, on this machine's disk, until they are in the store.

A row is what the inbox committed together. It leaves the file when the store has it, never before.
"""

from __future__ import annotations

import asyncio
import fcntl
import shutil
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import IO, NamedTuple

from sqlalchemy import Connection

from ingest.errors import ConfigurationError, StoreUnavailable
from ingest.event import Record
from storage import bulk
from storage.engine import Database, open_database
from storage.private_files import make_private
from storage.transactions import pack, transaction, unpack

LARGEST_BYTES = 1 << 30
_TABLES = (
    """CREATE TABLE IF NOT EXISTS batches (
        number INTEGER PRIMARY KEY AUTOINCREMENT, writer TEXT NOT NULL, count INTEGER NOT NULL, at INTEGER NOT NULL,
        tried_by TEXT, tried INTEGER, records BLOB NOT NULL)""",
    "CREATE TABLE IF NOT EXISTS aside (id INTEGER PRIMARY KEY, count INTEGER NOT NULL, at INTEGER NOT NULL,"
    " records BLOB NOT NULL)",
)
_TOTALS = (
    "SELECT coalesce(sum(count), 0), coalesce(sum(length(records)), 0), min(at)"
    " FROM (SELECT count, at, records FROM batches UNION ALL SELECT count, at, records FROM aside)"
)
_READ = (
    "SELECT number, writer, count, at, tried_by, tried, records FROM batches WHERE number > ? ORDER BY number LIMIT ?"
)


class Row(NamedTuple):
    """Records that were kept together. `number` orders them; together with `writer` it names them in the store.

    `tried`: the name by which they were given to the store directly before, and may be there. `at` in microseconds.
    """

    number: int
    writer: str
    at: int
    bytes: int
    tried: tuple[str, int] | None
    records: list[Record]


class Totals(NamedTuple):
    """The records that wait, their bytes, and since when the oldest does, in microseconds."""

    records: int = 0
    bytes: int = 0
    oldest_at: int | None = None


class SpoolFile:
    """A spool on the disk, of one process at a time. Everything raises StoreUnavailable where the disk fails."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: IO[bytes] | None = None
        self._database: Database = open_database(f"sqlite:///{path}", write_apart=True)

    async def open(self, writer: str) -> Totals:
        """Lock the file, made where there is none, and return what waits in it.

        What was set aside waits again, as kept by `writer`. Raises ConfigurationError where another process has it.
        """
        self._lock = _locked(self.path)
        await self._database.write(_prepare, writer)
        return await self._database.read(_totals)

    async def append(self, writer: str, at: int, records: Sequence[Record], tried: tuple[str, int] | None) -> int:
        """Keep records; return their bytes. They are on the disk when this returns."""
        packed = pack(records)
        await self._database.write(_append, writer, at, len(records), packed, *(tried or (None, None)))
        return len(packed)

    async def read(self, after: int, most: int) -> Sequence[Row]:
        """Return the first rows behind `after`, of one writer: about `most` records; what was tried is alone."""
        return await self._database.read(_read, after, most)

    async def forget(self, last: int) -> None:
        """Remove the rows up to the number `last`."""
        await self._database.write(_forget, last)

    async def cut(self, number: int, records: Sequence[Record]) -> None:
        """Leave only these records in a row."""
        await self._database.write(_cut, number, len(records), pack(records))

    async def set_aside(self, at: int, records: Sequence[Record]) -> None:
        """Keep records that came `at` apart from the others until the next `open`."""
        await self._database.write(_set_aside, at, len(records), pack(records))

    def room(self) -> int:
        """Return how many bytes may wait: half of what would be free without them, 1 GiB at most."""
        try:
            free = shutil.disk_usage(self.path.absolute().parent).free
            return min(LARGEST_BYTES, (free + self.path.stat().st_size) // 2)
        except OSError as error:
            raise StoreUnavailable(f"the spool {self.path} is gone: {error.strerror}") from error

    async def close(self) -> None:
        """Let go of the file."""
        await self._database.close()
        if self._lock is not None:
            self._lock.close()


def _locked(path: Path) -> IO[bytes]:
    """Lock a file beside the spool: SQLite's own locks are given back between transactions."""
    beside = f"{path}.lock"
    try:
        make_private(beside)
        lock = open(beside, "ab")  # noqa: SIM115 - held as long as the spool is open
    except OSError as error:
        raise ConfigurationError(f"store.spool: {path} cannot be made ({error.strerror})") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise ConfigurationError(
            f"store.spool: another process has {path}; give each server a spool of its own"
        ) from None
    return lock


async def totals_of(path: Path) -> Totals:
    """Return what waits in a spool that a server may have open; nothing where there is none."""
    if not await asyncio.to_thread(path.is_file):
        return Totals()
    database = open_database(f"sqlite:///{path}")
    try:
        return await database.read(_totals)
    finally:
        await database.close()


@transaction
def _prepare(connection: Connection, writer: str) -> None:
    for table in _TABLES:
        bulk.run(connection, table)
    again = "INSERT INTO batches (writer, count, at, records) SELECT ?, count, at, records FROM aside ORDER BY id"
    bulk.run(connection, again, (writer,))
    bulk.run(connection, "DELETE FROM aside")


@transaction
def _append(
    connection: Connection, writer: str, at: int, count: int, records: bytes, tried_by: str | None, tried: int | None
) -> None:
    row = (writer, count, at, tried_by, tried, records)
    bulk.run(
        connection,
        "INSERT INTO batches (writer, count, at, tried_by, tried, records) VALUES (?, ?, ?, ?, ?, ?)",
        row,
    )


@transaction
def _forget(connection: Connection, last: int) -> None:
    bulk.run(connection, "DELETE FROM batches WHERE number <= ?", (last,))


@transaction
def _cut(connection: Connection, number: int, count: int, records: bytes) -> None:
    bulk.run(connection, "UPDATE batches SET count = ?, records = ? WHERE number = ?", (count, records, number))


@transaction
def _set_aside(connection: Connection, at: int, count: int, records: bytes) -> None:
    bulk.run(connection, "INSERT INTO aside (count, at, records) VALUES (?, ?, ?)", (count, at, records))


def _read(connection: Connection, after: int, most: int) -> list[Row]:
    rows: list[Row] = []
    count = 0
    driver: sqlite3.Connection = connection.connection.driver_connection  # type: ignore[assignment]
    found = driver.execute(_READ, (after, most))  # which gives row by row: together they may be large
    for number, writer, records, at, tried_by, tried, packed in found:
        if rows and (count + records > most or tried_by is not None or writer != rows[0].writer):
            break
        named = None if tried_by is None else (tried_by, tried)
        rows.append(Row(number, writer, at, len(packed), named, unpack(packed, list[Record])))
        count += records
        if named is not None:
            break
    return rows


def _totals(connection: Connection) -> Totals:
    return Totals(*bulk.run(connection, _TOTALS)[0])
