"""A database that works on the event loop, for tests in virtual time."""

from __future__ import annotations

from pathlib import Path
from typing import ParamSpec, TypeVar

from sqlalchemy import make_url

from storage.database import Work
from storage.sqlite import WritingConnection

P = ParamSpec("P")
T = TypeVar("T")


class OnTheLoop:
    """SQLite without a thread, so that time may be virtual."""

    dialect = "sqlite"

    def __init__(self, file: Path) -> None:
        self._connection = WritingConnection(make_url(f"sqlite+pysqlite:///{file}"))

    async def write(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See Database."""
        return self._connection.run(work, *args, **kwargs)

    read = alter = write

    async def close(self) -> None:
        """See Database."""
        self._connection.close()
