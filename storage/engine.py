"""The way to the database: one write path, one read path, for SQLite and PostgreSQL alike.

Work is a plain function of a SQLAlchemy Connection. SQLite runs it on a thread (one hop for a whole transaction, one
writer), PostgreSQL on the event loop through asyncpg; the function cannot tell.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from ingest.errors import ConfigurationError, HeadraceError, StoreUnavailable

P = ParamSpec("P")
T = TypeVar("T")
Work = Callable[Concatenate[Connection, P], T]

_CONNECT_SECONDS = 5
_COMMAND_SECONDS = 10  # a frozen server must not hold a sender longer than it waits (Particle: 20 s)
_BUSY_SECONDS = 5
_READ_THREADS = 4
# A multi-row statement has one text per number of rows; each is prepared once and kept.
_CACHED_STATEMENTS = 1024
_DATA_ERROR_CLASSES = ("22", "23", "54")
_DATA_ERRORS = (
    OverflowError,
    UnicodeEncodeError,
    DataError,
    IntegrityError,
    sqlite3.DataError,
    sqlite3.IntegrityError,
)


class DataRefused(HeadraceError):
    """The database calls the data itself an error; sending it again cannot help."""


class Database(Protocol):
    """Transactions on one database. Both methods raise StoreUnavailable, or DataRefused, and then changed nothing."""

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        ...

    async def write(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `work(connection, …)` in a transaction that is durable when this returns."""
        ...

    async def read(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `work(connection, …)` in a transaction of its own that writes nothing."""
        ...

    async def close(self) -> None:
        """Let go of every connection."""
        ...


def open_database(url: str) -> Database:
    """The database of a URL as operators and providers write it. Raises ConfigurationError."""
    parsed = parse_url(url)
    return SqliteDatabase(parsed) if parsed.get_backend_name() == "sqlite" else PostgresDatabase(parsed)


def parse_url(url: str) -> URL:
    """The URL with our driver in it. Raises ConfigurationError, never showing the password."""
    try:
        parsed = make_url(url)
    except SQLAlchemyError:
        raise ConfigurationError("store.url: expected sqlite:///file or postgresql://user@host/database") from None
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        if parsed.database in {None, "", ":memory:"}:  # each of our connections would see one of its own
            raise ConfigurationError("store.url: expected a file, sqlite:///path, not a database in memory")
        return parsed.set(drivername="sqlite+pysqlite")
    if backend in {"postgres", "postgresql"}:
        return _asyncpg_url(parsed)
    raise ConfigurationError(f"store.url: expected sqlite:/// or postgresql://, not {backend}://")


def _asyncpg_url(url: URL) -> URL:
    """libpq writes sslmode where asyncpg's dialect expects ssl; other libpq options are not ours to guess."""
    query = dict(url.query)
    if unknown := sorted(query.keys() - {"host", "port", "ssl", "sslmode"}):
        raise ConfigurationError(f"store.url: the option {unknown[0]} is not supported here; leave it out")
    if "sslmode" in query:
        query["ssl"] = query.pop("sslmode")
    return url.set(drivername="postgresql+asyncpg", query=query)


class SqliteDatabase:
    """SQLite in WAL mode with synchronous=FULL: a commit is on the disk when it returns. One writer thread."""

    dialect = "sqlite"

    def __init__(self, url: URL) -> None:
        self._writer = _sqlite_engine(url, "BEGIN IMMEDIATE")
        self._reader = _sqlite_engine(url, "BEGIN")
        self._writing: Connection | None = None
        self._write_thread = ThreadPoolExecutor(1, "sqlite-write")
        self._read_threads = ThreadPoolExecutor(_READ_THREADS, "sqlite-read")

    async def write(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See Database."""
        return await self._run(self._write_thread, self._write_transaction, work, *args, **kwargs)

    async def read(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See Database."""
        return await self._run(self._read_threads, self._reader.begin, work, *args, **kwargs)

    async def close(self) -> None:
        """See Database."""
        for threads, engine in ((self._write_thread, self._writer), (self._read_threads, self._reader)):
            await asyncio.to_thread(threads.shutdown)
            if self._writing is not None:
                self._writing.close()
                self._writing = None
            engine.dispose()

    @contextmanager
    def _write_transaction(self) -> Iterator[Connection]:
        """A transaction on the one writing connection; to fetch it from the pool each time would cost 70 µs."""
        if self._writing is None:
            self._writing = self._writer.connect()
        with self._writing.begin():
            yield self._writing

    async def _run(
        self,
        threads: ThreadPoolExecutor,
        begin: Callable[[], AbstractContextManager[Connection]],
        work: Work[P, T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        def transaction() -> T:
            try:
                with begin() as connection:
                    return work(connection, *args, **kwargs)
            except (SQLAlchemyError, sqlite3.Error, OverflowError, UnicodeEncodeError) as error:
                raise translated(error) from error

        return await asyncio.get_running_loop().run_in_executor(threads, transaction)


class PostgresDatabase:
    """PostgreSQL through asyncpg. Nothing outlives a transaction, so a pooler in transaction mode may stand between."""

    dialect = "postgresql"

    def __init__(self, url: URL) -> None:
        self._writer = _postgres_engine(url)
        # Slow readers must not keep the ingestion from a connection. A reader is told 503 where its connection broke
        # in an outage, so each is tried first; the ingestion's sender is told to send again anyway.
        self._reader = _postgres_engine(url, pool_pre_ping=True)

    async def write(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See Database."""
        return await self._run(self._writer, work, *args, **kwargs)

    async def read(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See Database."""
        return await self._run(self._reader, work, *args, **kwargs)

    async def close(self) -> None:
        """See Database."""
        for engine in (self._writer, self._reader):
            await engine.dispose()

    async def _run(self, engine: AsyncEngine, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            async with engine.begin() as connection:
                return await connection.run_sync(work, *args, **kwargs)
        except (SQLAlchemyError, OSError, TimeoutError, OverflowError, UnicodeEncodeError) as error:
            raise translated(error) from error


def translated(error: Exception) -> HeadraceError:
    """A driver's error in our terms: is the data at fault, or the way to the store? Messages hold no values."""
    if isinstance(error, _DATA_ERRORS):
        return DataRefused(type(error).__name__)
    if isinstance(error, DBAPIError):
        state = getattr(error.orig, "sqlstate", None) or ""
        if state[:2] in _DATA_ERROR_CLASSES:
            return DataRefused(f"SQLSTATE {state}" if state else type(error).__name__)
        return StoreUnavailable(_first_line(error.orig))
    return StoreUnavailable(_first_line(error))


def _first_line(error: BaseException | None) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _postgres_engine(url: URL, *, pool_pre_ping: bool = False) -> AsyncEngine:
    return create_async_engine(
        url,
        pool_pre_ping=pool_pre_ping,
        pool_size=5,
        max_overflow=5,
        pool_timeout=_CONNECT_SECONDS,
        connect_args={"timeout": _CONNECT_SECONDS, "command_timeout": _COMMAND_SECONDS},
    )


def _sqlite_engine(url: URL, begin: str) -> Engine:
    engine = create_engine(
        url,
        pool_size=_READ_THREADS + 1,
        connect_args={
            "timeout": _BUSY_SECONDS,
            "check_same_thread": False,
            "isolation_level": None,  # transactions are begun below, not guessed by the driver
            "cached_statements": _CACHED_STATEMENTS,
        },
    )

    @event.listens_for(engine, "connect")
    def set_pragmas(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")

    @event.listens_for(engine, "begin")
    def begin_transaction(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine
