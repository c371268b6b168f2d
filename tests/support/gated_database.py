"""A real database that can be held up, or be away, when a test says so."""

from __future__ import annotations

import asyncio
from typing import ParamSpec, TypeVar

from ingest.errors import StoreUnavailable
from storage.engine import Database, Work

P = ParamSpec("P")
T = TypeVar("T")


class GatedDatabase:
    """storage.engine.Database around another one. `away`: every access raises StoreUnavailable, and is counted.

    `writing`: how many writes are under way.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.dialect = database.dialect
        self.away = False
        self.refused = 0
        self.writing = 0
        self._open = asyncio.Event()
        self._open.set()

    def close_gate(self) -> None:
        """Let writes wait from now on."""
        self._open.clear()

    def open_gate(self) -> None:
        """Let writes through."""
        self._open.set()

    async def write(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See Database."""
        self.writing += 1
        try:
            await self._open.wait()
            self._require_there()
            return await self._database.write(work, *args, **kwargs)
        finally:
            self.writing -= 1

    async def read(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See Database."""
        self._require_there()
        return await self._database.read(work, *args, **kwargs)

    async def alter(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See Database."""
        return await self._database.alter(work, *args, **kwargs)

    async def close(self) -> None:
        """See Database."""
        await self._database.close()

    def _require_there(self) -> None:
        if self.away:
            self.refused += 1
            raise StoreUnavailable("the test took it away")
