"""The parts of a process by which it gets along with others on the same store; on SQLite there are no others."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass

from ingest.leases import OwnLeases
from ingest.protocols import Coverage, Leases, Opens
from ingest.reconnect import OwnOpens
from storage.coverage import SqlCoverage
from storage.engine import Database, open_database
from storage.opens import SharedOpens
from storage.replicas import SqlLeases


@dataclass(frozen=True, slots=True)
class Replica:
    """What a process shares: leases, the budget of opens, and the record of who listened.

    `apart` has connections of its own, so that a full pool or a slow commit makes nobody take this process for dead.
    """

    leases: Leases
    opens: Opens
    coverage: Coverage
    apart: Database | None = None

    async def close(self) -> None:
        """Show that the process is gone, and let go of the connections."""
        await self.leases.close()
        if self.apart is not None:
            await self.apart.close()


def make_replica(database: Database, url: str, wanted: Iterable[str] = ()) -> Replica:
    """Make the parts for a store. Each start of a process has a name of its own.

    `wanted`: the leases that it asks for as soon as it joins: a handler that is new begins `from = "now"` where it is
    taken up, and that is not to be a second late.
    """
    holder = secrets.token_hex(8)
    if database.dialect == "sqlite":
        return Replica(OwnLeases(holder), OwnOpens(), SqlCoverage(database, holder))
    apart = open_database(url)
    leases = SqlLeases(apart, holder)
    for name in wanted:
        leases.lease(name)
    return Replica(leases, SharedOpens(apart, holder), SqlCoverage(apart, holder), apart)
