"""Empty stores of each kind, for suites that every store must pass."""

from __future__ import annotations

import asyncio
import functools
from pathlib import Path

from storage.engine import open_database
from storage.migrate import migrate
from tests.support.postgres import Postgres, debian_server, session_server

SQLITE, POSTGRES, DEBIAN = "sqlite", "postgresql", "postgresql-debian"
BOTH = (SQLITE, POSTGRES)
ALL = (*BOTH, DEBIAN)  # for what may depend on PostgreSQL's version: its statements, plans and errors


def server_of(kind: str) -> Postgres:
    """Return the server that has the stores of a kind."""
    return debian_server() if kind == DEBIAN else session_server()


def bare_store(kind: str, folder: Path) -> str:
    """Return the URL of a database without any schema."""
    return f"sqlite:///{folder}/test.db" if kind == SQLITE else server_of(kind).fresh_database()


def fresh_store(kind: str, folder: Path) -> str:
    """Return the URL of a database to be migrated; on PostgreSQL it is, copied from another: that is quicker."""
    if kind == SQLITE:
        return bare_store(kind, folder)
    server = server_of(kind)
    return server.fresh_database(_template(server))


@functools.cache
def _template(server: Postgres) -> str:
    async def migrated(url: str) -> None:
        database = open_database(url)
        await migrate(database)
        await database.close()

    url = server.fresh_database()
    asyncio.run(migrated(url))
    return url
