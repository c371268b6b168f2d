"""SQLite in WAL mode with synchronous=FULL: a commit is on the disk when it returns. One writer, a few readers."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import SQLAlchemyError

from ingest.errors import StoreUnavailable
from storage import bulk
from storage.database import P, T, Work, Writer, translated
from storage.private_files import make_private

# sqlite3 looks for a way to adapt each parameter of bytes, and raises and swallows an error when it finds none: a
# twentieth of what a commit takes.
sqlite3.register_adapter(bytes, bytes)

FileIdentity = tuple[int, int]  # device and inode

BUSY_SECONDS = 5
_READ_THREADS = 4
# The books write to as many pages as they have devices: with SQLite's own 2 MiB they are read, and written, twice.
_WRITER_CACHE_KIB = 16 * 1024
# A multi-row statement has one text per number of rows; each is prepared once and kept.
_CACHED_STATEMENTS = 1024


class SqliteDatabase:
    """storage.database.Database. A read that takes longer than `read_seconds` is stopped, and StoreUnavailable."""

    dialect = "sqlite"

    def __init__(self, url: URL, writer: Writer, read_seconds: float | None = None) -> None:
        self._writer = writer
        self._read_seconds = read_seconds
        self._reader = make_engine(url, "BEGIN")
        self._read_threads = ThreadPoolExecutor(_READ_THREADS, "sqlite-read")

    async def write(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See Database."""
        return await self._writer.run(work, *args, **kwargs)

    async def read(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See Database."""

        reading = _Reading(self._reader, lambda connection: work(connection, *args, **kwargs))
        answer = asyncio.get_running_loop().run_in_executor(self._read_threads, reading.run)
        try:
            async with asyncio.timeout(self._read_seconds):
                return cast("T", await answer)
        except TimeoutError:
            raise StoreUnavailable(f"no answer to a question for {self._read_seconds:g} s") from None
        finally:
            reading.stop()  # it may still be running: others want the thread

    async def alter(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See Database."""
        return await self._writer.run(work, *args, **kwargs)

    async def close(self) -> None:
        """See Database."""
        await self._writer.close()
        await asyncio.to_thread(self._read_threads.shutdown)
        self._reader.dispose()


class _Reading:
    """A read in a thread, which the event loop may stop."""

    def __init__(self, engine: Engine, work: Callable[[Connection], object]) -> None:
        self._engine = engine
        self._work = work
        self._driver: Any = None  # sqlite3's connection, while it is ours
        self._lock = threading.Lock()

    def run(self) -> object:
        """Run the work in a transaction. Raises StoreUnavailable, also where it is stopped."""
        with translation(), self._engine.begin() as connection:
            self._have(connection.connection.driver_connection)
            try:
                return self._work(connection)
            finally:
                self._have(None)

    def stop(self) -> None:
        """End the statement that is running, if any is."""
        with self._lock:
            if self._driver is not None:
                self._driver.interrupt()

    def _have(self, driver: Any) -> None:
        with self._lock:
            self._driver = driver


class WritingConnection:
    """The one connection that writes; to fetch it from a pool each time would cost 70 µs.

    What is committed to a file that was removed or replaced is gone when it is closed, so nothing that was is told as
    stored. `file`: the identity of the database's, where it is known beforehand; no other one is opened.
    """

    def __init__(self, url: URL, file: FileIdentity | None = None) -> None:
        self._engine = make_engine(url, "BEGIN IMMEDIATE")
        self._path = url.database or ""
        self._file = file
        self._files: list[FileIdentity | None] | None = None  # of the database, its -wal and its -shm
        self._connection: Connection | None = None

    def run(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See Writer."""
        with translation():
            if self._connection is None:
                if self._file not in {None, identity_of(self._path)}:  # SQLite would make a new one
                    raise _moved(self._path)
                self._connection = self._engine.connect()
                bulk.run(self._connection, f"PRAGMA cache_size = -{_WRITER_CACHE_KIB}")
            with self._connection.begin():
                result = work(self._connection, *args, **kwargs)
            self._require_in_place()
            return result

    def _require_in_place(self) -> None:
        files = [identity_of(f"{self._path}{suffix}") for suffix in ("", "-wal", "-shm")]
        if self._files is None:
            self._files = files
        if files != self._files:
            raise _moved(self._path)

    def close(self) -> None:
        """Let go of it."""
        if self._connection is not None:
            self._connection.close()
        self._engine.dispose()


def identity_of(path: str) -> FileIdentity | None:
    """Return what tells a file from every other one, also from a copy in its place; None where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _moved(path: str) -> StoreUnavailable:
    return StoreUnavailable(f"{path}, its -wal or -shm was removed or replaced: put it back, or restart")


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
    """Make an engine whose transactions start with `begin`."""
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

    @event.listens_for(engine, "do_connect")
    def close_to_others(_dialect: Any, _record: Any, _args: Any, _keywords: Any) -> None:
        make_private((url.database or "").removeprefix("file:"))

    @event.listens_for(engine, "connect")
    def set_pragmas(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA temp_store=MEMORY")  # a multi-row INSERT's way back was a temporary file each time

    @event.listens_for(engine, "begin")
    def begin_transaction(connection: Connection) -> None:
        bulk.run(connection, begin)

    return engine
