"""The database as the rest of the store sees it: one way to write, one way to read, and two kinds of failure.

Work is a plain function of a SQLAlchemy Connection. It runs in a thread, in another process or on the event loop, and
cannot tell. For another process it is marked as a transaction (storage.transactions).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ingest.errors import HeadraceError, StoreFault, StoreUnavailable

P = ParamSpec("P")
T = TypeVar("T")
Work = Callable[Concatenate[Connection, P], T]

_CHECK_VIOLATED = "23514"
_DATA_ERROR_CLASSES = ("22", "23", "54")
# SQLSTATEs, or their beginnings, that speak of the way to the store or of its state: connection, read-only, cut off as
# idle, login, unknown database, rollback, resources, object in use, permission, operator, system.
_OUTAGES = ("08", "25006", "25P03", "25P04", "28", "3D", "40", "42501", "53", "55", "57", "58")
_SQLITE_OUTAGES = frozenset(
    (
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,  # busy, in the words of WAL
    )
)
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


class NoPartition(StoreUnavailable):
    """PostgreSQL has no partition for a row: one has to be made. The data is not at fault."""


class CommitUnanswered(StoreUnavailable):
    """The COMMIT got no answer, and may have happened. `result`: what the work returned before it."""

    def __init__(self, message: str, result: Any = None) -> None:
        super().__init__(message)
        self.result = result


class Database(Protocol):
    """Transactions on one database. All of them raise DataRefused, having changed nothing, or StoreUnavailable.

    With the latter nothing was changed unless the answer to the COMMIT was lost: a connection that broke
    (CommitUnanswered), or a writing process that died. Then it may have been.
    """

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

    async def alter(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As `write`, for what changes the schema: with no limit of time, for it takes as long as there are rows."""
        ...

    async def close(self) -> None:
        """Let go of every connection."""
        ...


class Writer(Protocol):
    """The place where is written: on a thread, or in a process of its own (storage.writer)."""

    def run(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]:
        """Run `work(connection, …)` in a transaction. Raises as Database.write does."""
        ...

    async def close(self) -> None:
        """Let go of its connections."""
        ...


def translated(error: Exception) -> HeadraceError:
    """Return a driver's error in our terms: is the data at fault, the way to the store, or something else?

    Messages hold no values.
    """
    cause, state = _cause_of(error), sqlstate_of(error)
    if state == _CHECK_VIOLATED and not getattr(cause, "constraint_name", None):
        return NoPartition(_first_line(cause))
    if isinstance(error, _DATA_ERRORS):
        return DataRefused(type(error).__name__)
    if state[:2] in _DATA_ERROR_CLASSES:
        return DataRefused(f"SQLSTATE {state}")
    return (StoreUnavailable if _is_outage(error, cause, state) else StoreFault)(_first_line(cause))


def sqlstate_of(error: BaseException) -> str:
    """Return the SQLSTATE that the server gave; empty where it gave none."""
    return getattr(_cause_of(error), "sqlstate", None) or ""


def _cause_of(error: BaseException) -> BaseException:
    """Return what the driver raised; the error itself where no driver did."""
    try:
        return error.driver_exception if isinstance(error, DBAPIError) else error
    except ValueError:  # SQLAlchemy's own words
        return error


def _is_outage(error: Exception, cause: BaseException, state: str) -> bool:
    if isinstance(cause, sqlite3.Error):
        code: int | None = getattr(cause, "sqlite_errorcode", None)  # there where SQLite itself raised it
        return code is not None and code & 0xFF in _SQLITE_OUTAGES
    if state:
        return state.startswith(_OUTAGES)
    if isinstance(error, DBAPIError):
        return error.connection_invalidated
    return isinstance(error, PoolTimeout) or not isinstance(error, SQLAlchemyError)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
