"""From a URL to a database."""

from __future__ import annotations

import re

from sqlalchemy import URL, make_url
from sqlalchemy.exc import SQLAlchemyError

from ingest.errors import ConfigurationError
from storage.database import Database, DataRefused, Work
from storage.postgres import PostgresDatabase
from storage.postgres_url import NO_PORT, read_postgres_url
from storage.sqlite import SqliteDatabase, WriterThread, identity_of
from storage.writer.process import WriterProcess

__all__ = ["DataRefused", "Database", "Work", "open_database", "parse_url", "read_url"]

_READ_SECONDS = 10.0  # as long as with PostgreSQL


def open_database(url: str, *, write_apart: bool = False) -> Database:
    """Return the database of a URL as operators and providers write it. Raises ConfigurationError.

    `write_apart`: it is written by a process of its own, and no wait for it is endless, as a service needs it.
    """
    parsed = parse_url(url)
    if parsed.get_backend_name() != "sqlite":
        return PostgresDatabase(read_postgres_url(url), WriterProcess(url) if write_apart else None)
    if not write_apart:
        return SqliteDatabase(parsed, WriterThread(parsed))
    writer = WriterProcess(parsed.render_as_string(hide_password=False), identity_of(parsed.database or ""))
    return SqliteDatabase(parsed, writer, _READ_SECONDS)


def read_url(url: str) -> URL:
    """Return a URL, of whatever database, that can be used. Raises ConfigurationError, never showing the password.

    Of PostgreSQL's only the dialect is in it: see read_postgres_url.
    """
    if "\0" in url:
        raise ConfigurationError("store.url: expected a text without NUL")
    if url.startswith("sqlite:") and "?" in url:
        option = re.split("[=&]", url.partition("?")[2])[0]
        raise ConfigurationError(
            f"store.url: the option {option} is not known, SQLite has none here; a ? in a file's name is written %3F"
        )
    if url.startswith(("postgres:", "postgresql:")):
        read_postgres_url(url)
        return URL.create("postgresql+asyncpg")
    try:
        return make_url(url)
    except SQLAlchemyError:
        raise ConfigurationError("store.url: expected sqlite:///file or postgresql://user@host/database") from None
    except ValueError:  # whose text is what stands in the place of a port
        raise ConfigurationError(NO_PORT) from None


def parse_url(url: str) -> URL:
    """Return the URL with our driver in it. Raises ConfigurationError, never showing the password."""
    parsed = read_url(url)
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        if parsed.database in {None, "", ":memory:"}:  # each of our connections would see one of its own
            raise ConfigurationError("store.url: expected a file, sqlite:///path, not a database in memory")
        return parsed.set(drivername="sqlite+pysqlite")
    if backend == "postgresql":
        return parsed
    raise ConfigurationError(f"store.url: expected sqlite:/// or postgresql://, not {backend}://")
