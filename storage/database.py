"""What a database is to the rest of the store: one way to write, one way to read, and two kinds of failure.

Work is a plain function of a SQLAlchemy Connection. It runs in a thread, in another process or on the event loop, and
cannot tell. What writes must be picklable: a function of a module, and values.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError

from ingest.errors import HeadraceError, StoreUnavailable

P = ParamSpec("P")
T = TypeVar("T")
Work = Callable[Concatenate[Connection, P], T]

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
    """Transactions on one database. All of them raise StoreUnavailable, or DataRefused, and then changed nothing."""

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
