"""Questions from outside on connections of their own: however many and slow they are, nobody waits for them."""

from __future__ import annotations

from storage.database import Database, P, T, Work


class ReadApart:
    """storage.database.Database that reads by `readers`, which are its own to close, and writes to `database`."""

    def __init__(self, database: Database, readers: Database) -> None:
        self._database = database
        self._readers = readers
        self.dialect = database.dialect

    async def write(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See Database."""
        return await self._database.write(work, *args, **kwargs)

    async def read(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See Database."""
        return await self._readers.read(work, *args, **kwargs)

    async def alter(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See Database."""
        return await self._database.alter(work, *args, **kwargs)

    async def close(self) -> None:
        """See Database."""
        await self._readers.close()
