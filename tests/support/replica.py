"""A process on a store that others share, as far as leases and coverage know it."""

from __future__ import annotations

from collections.abc import Sequence

from storage.coverage import SqlCoverage
from storage.engine import Database
from storage.replicas import go_round
from tests.support.stored import run


class Replica:
    """Renews its row when the test says so; it has died when nobody does any more."""

    def __init__(self, database: Database, holder: str, *wants: str) -> None:
        self.holder = holder
        self.wants = tuple(sorted(wants))
        self.coverage = SqlCoverage(database, holder)
        self.database = database

    async def go_round(self) -> Sequence[str]:
        """Renew, take and give back; what it holds then."""
        return (await self.database.write(go_round, self.holder, self.wants)).held

    async def be_silent(self, seconds: float) -> None:
        """Let it be so long ago that it renewed its row."""
        earlier = round(seconds * 1_000_000)
        statement = f"UPDATE replicas SET expires_at = expires_at - {earlier} WHERE holder = '{self.holder}'"  # noqa: S608
        await run(self.database, statement)
