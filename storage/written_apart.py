"""PostgreSQL that is written by a process of its own (storage.writer)."""

from __future__ import annotations

from storage.database import Database, P, T, Work
from storage.writer.process import WriterProcess


class WrittenApart:
    """storage.database.Database that writes by `writer` and does all else by `database`; it closes both."""

    def __init__(self, database: Database, writer: WriterProcess) -> None:
        self._database = database
        self._writer = writer
        self.dialect = database.dialect

    async def write(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See Database. `work` is marked as a transaction."""
        return await self._writer.run(work, *args, **kwargs)

    async def read(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See Database."""
        return await self._database.read(work, *args, **kwargs)

    async def alter(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See Database."""
        return await self._database.alter(work, *args, **kwargs)

    async def close(self) -> None:
        """See Database."""
        await self._writer.close()
        await self._database.close()
