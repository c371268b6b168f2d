"""The databases under measurement: SQLite, PostgreSQL from the wheel, PostgreSQL from Debian."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from tests.bench.debian_postgres import DebianPostgres
from tests.support.postgres import session_server

SQLITE, WHEEL, DEBIAN = "SQLite", "PostgreSQL", "Debian's PostgreSQL"
KINDS = (SQLITE, WHEEL, DEBIAN)


class _PostgresServer(Protocol):
    """A server on which databases can be made."""

    def fresh_database(self) -> str:
        """Create an empty database; its URL."""
        ...

    def drop_database(self, url: str) -> None:
        """Drop a database whoever is still connected to it."""
        ...


class Stores:
    """Makes databases by kind. A server starts when it is first needed, and ends with the block."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._servers: dict[str, _PostgresServer] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    @contextmanager
    def fresh(self, kind: str) -> Iterator[str]:
        """The URL of a new database. It is gone afterwards: PostgreSQL would go on tidying it up beside what comes."""
        if kind == SQLITE:
            with tempfile.TemporaryDirectory(dir=self._folder) as folder:
                yield f"sqlite:///{folder}/headrace.db"
            return
        server = self._server(kind)
        url = server.fresh_database()
        try:
            yield url
        finally:
            server.drop_database(url)

    def _server(self, kind: str) -> _PostgresServer:
        if kind not in self._servers:
            started = session_server() if kind == WHEEL else self._stack.enter_context(DebianPostgres())
            self._servers[kind] = started
        return self._servers[kind]
