"""SQLite in WAL mode with synchronous=FULL: a commit is on the disk when it returns. One writer, a few readers."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import SQLAlchemyError

from storage import bulk
from storage.database import P, T, Work, translated

# sqlite3 looks for a way to adapt each parameter of bytes, and raises and swallows an error when it finds none: a
# twentieth of what a commit takes.
sqlite3.register_adapter(bytes, bytes)

BUSY_SECONDS = 5
_READ_THREADS = 4
# A multi-row statement has one text per number of rows; each is prepared once and kept.
_CACHED_STATEMENTS = 1024


class Writer(Protocol):
    """Where the writing connection lives: on a thread, or in a process of its own (storage.writer)."""

    def run(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]:
        """Run `work(connection, …)` in a transaction. Raises StoreUnavailable, DataRefused."""
        ...

    async def close(self) -> None:
        """Let go of the connection."""
        ...


class SqliteDatabase:
    """storage.database.Database."""

    dialect = "sqlite"

    def __init__(self, url: URL, writer: Writer) -> None:
        self._writer = writer
        self._reader = make_engine(url, "BEGIN")
        self._read_threads = ThreadPoolExecutor(_READ_THREADS, "sqlite-read")

    async def write(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See Database."""
        return await self._writer.run(work, *args, **kwargs)

    async def read(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See Database."""

        def transaction() -> T:
            with translation(), self._reader.begin() as connection:
                return work(connection, *args, **kwargs)

        return await asyncio.get_running_loop().run_in_executor(self._read_threads, transaction)

    async def alter(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See Database."""
        return await self._writer.run(work, *args, **kwargs)

    async def close(self) -> None:
        """See Database."""
        await self._writer.close()
        await asyncio.to_thread(self._read_threads.shutdown)
        self._reader.dispose()


class WritingConnection:
    """The one connection that writes; to fetch it from a pool each time would cost 70 µs."""

    def __init__(self, url: URL) -> None:
        self._engine = make_engine(url, "BEGIN IMMEDIATE")
        self._connection: Connection | None = None

    def run(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See Writer."""
        with translation():
            if self._connection is None:
                self._connection = self._engine.connect()
            with self._connection.begin():
                return work(self._connection, *args, **kwargs)

    def close(self) -> None:
        """Let go of it."""
        if self._connection is not None:
            self._connection.close()
        self._engine.dispose()


class WriterThread:
    """Writer for short-lived programs and tests: nothing to start."""

    def __init__(self, url: URL) -> None:
        self._connection = WritingConnection(url)
        self._thread = ThreadPoolExecutor(1, "sqlite-write")

    async def run(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See Writer."""
        transaction = partial(self._connection.run, work, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._thread, transaction)

    async def close(self) -> None:
        """See Writer."""
        await asyncio.to_thread(self._thread.shutdown)
        self._connection.close()


@contextmanager
def translation() -> Iterator[None]:
    """Raise what SQLite and SQLAlchemy raise in our terms."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error, OverflowError, UnicodeEncodeError) as error:
        raise translated(error) from error


def make_engine(url: URL, begin: str) -> Engine:
    """An engine whose transactions start with `begin`."""
    engine = create_engine(
        url,
        pool_size=_READ_THREADS + 1,
        connect_args={
            "timeout": BUSY_SECONDS,
            "check_same_thread": False,
            "isolation_level": None,  # transactions are begun below, not guessed by the driver
            "cached_statements": _CACHED_STATEMENTS,
        },
    )

    @event.listens_for(engine, "connect")
    def set_pragmas(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA temp_store=MEMORY")  # a multi-row INSERT's way back was a temporary file each time

    @event.listens_for(engine, "begin")
    def begin_transaction(connection: Connection) -> None:
        bulk.run(connection, begin)

    return engine
