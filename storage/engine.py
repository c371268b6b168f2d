"""From a URL to a database."""

from __future__ import annotations

import re

from sqlalchemy import URL, make_url
from sqlalchemy.exc import SQLAlchemyError

from ingest.errors import ConfigurationError
from storage.database import Database, DataRefused, Work
from storage.postgres import PostgresDatabase
from storage.sqlite import SqliteDatabase, WriterThread
from storage.writer import WriterProcess

__all__ = ["DataRefused", "Database", "Work", "open_database", "parse_url", "read_url"]

_LARGEST_PORT = 65_535
_NO_PORT = (
    "store.url: expected postgresql://user:password@host:port/database, with a number from 1 to 65535 as its port; "
    "is the host missing, or a character of the password not percent-encoded?"
)

_READ_SECONDS = 10.0  # as long as with PostgreSQL


def open_database(url: str, *, write_apart: bool = False) -> Database:
    """Return the database of a URL as operators and providers write it. Raises ConfigurationError.

    `write_apart`: SQLite is written by a process of its own, and no wait for it is endless, as a service needs it. With
    PostgreSQL both is so anyway.
    """
    parsed = parse_url(url)
    if parsed.get_backend_name() != "sqlite":
        return PostgresDatabase(parsed)
    if not write_apart:
        return SqliteDatabase(parsed, WriterThread(parsed))
    return SqliteDatabase(parsed, WriterProcess(parsed), _READ_SECONDS)


def read_url(url: str) -> URL:
    """Return the parts of a URL, of whatever database. Raises ConfigurationError, never showing the password."""
    if "\0" in url:
        raise ConfigurationError("store.url: expected a text without NUL")
    if url.startswith("sqlite:") and "?" in url:
        option = re.split("[=&]", url.partition("?")[2])[0]
        raise ConfigurationError(
            f"store.url: the option {option} is not known, SQLite has none here; a ? in a file's name is written %3F"
        )
    try:
        parsed = make_url(url)
    except SQLAlchemyError:
        raise ConfigurationError("store.url: expected sqlite:///file or postgresql://user@host/database") from None
    except ValueError:  # whose text is what stands in the place of the port: the password, where the host was forgotten
        raise ConfigurationError(_NO_PORT) from None
    if (parsed.port or 0) > _LARGEST_PORT:
        raise ConfigurationError(_NO_PORT)
    return parsed


def parse_url(url: str) -> URL:
    """Return the URL with our driver in it. Raises ConfigurationError, never showing the password."""
    parsed = read_url(url)
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        if parsed.database in {None, "", ":memory:"}:  # each of our connections would see one of its own
            raise ConfigurationError("store.url: expected a file, sqlite:///path, not a database in memory")
        return parsed.set(drivername="sqlite+pysqlite")
    if backend in {"postgres", "postgresql"}:
        return _asyncpg_url(parsed)
    raise ConfigurationError(f"store.url: expected sqlite:/// or postgresql://, not {backend}://")


def _asyncpg_url(url: URL) -> URL:
    """Return the URL for asyncpg.

    libpq writes sslmode where asyncpg's dialect expects ssl; other libpq options are not ours to guess.
    """
    query = dict(url.query)
    if unknown := sorted(query.keys() - {"host", "port", "ssl", "sslmode"}):
        raise ConfigurationError(f"store.url: the option {unknown[0]} is not supported here; leave it out")
    if "sslmode" in query:
        query["ssl"] = query.pop("sslmode")
    return url.set(drivername="postgresql+asyncpg", query=query)
