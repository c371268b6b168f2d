"""The databases under measurement: SQLite, PostgreSQL from the wheel, PostgreSQL from Debian."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.postgres import Postgres, debian_server, session_server

SQLITE, WHEEL, DEBIAN = "SQLite", "PostgreSQL", "Debian's PostgreSQL"
KINDS = (SQLITE, WHEEL, DEBIAN)


class Stores:
    """Makes databases by kind. A server starts when it is first needed, and ends with the process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def fresh(self, kind: str) -> Iterator[str]:
        """The URL of a new database. It is gone afterwards: PostgreSQL would go on tidying it up beside what comes."""
        if kind == SQLITE:
            with tempfile.TemporaryDirectory(dir=self._folder) as folder:
                yield f"sqlite:///{folder}/headrace.db"
            return
        server: Postgres = session_server() if kind == WHEEL else debian_server()
        url = server.fresh_database()
        try:
            yield url
        finally:
            server.drop_database(url)
