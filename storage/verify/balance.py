"""The light verify, every hour: cheap whatever the size of the store, because only some blocks are read again."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from random import Random

import structlog
from sqlalchemy import Connection, func, select

from ingest.errors import StoreUnavailable
from ingest.leases import Lease
from ingest.metrics import Metrics
from storage.database import Database
from storage.gaps import SourceKey
from storage.tables import blocks as blocks_table
from storage.verify import blocks, gaps, handlers
from storage.verify.finding import Finding
from storage.verify.snapshot import of_one_moment
from storage.verify.totals import positions, rows, totals, unposted

_EVERY_SECONDS = 3600.0
_SOON_SECONDS = 60.0  # after the start, or while the books are far behind
_MOST_UNPOSTED = 200_000  # positions that are counted
_BLOCKS = 16  # that are read again, beside the newest
_SHOWN = 5

log = structlog.get_logger(__name__)


class Balance:
    """Shows the difference while the lease is this process's: of the store, and of what this process counted itself.

    `sources` are those of the process. Elsewhere the gauge is absent, and each process still looks at its own counts.
    """

    def __init__(
        self,
        database: Database,
        metrics: Metrics,
        sources: Sequence[SourceKey],
        random: Random,
        *,
        lease: Lease | None = None,
        soon_seconds: float = _SOON_SECONDS,
        every_seconds: float = _EVERY_SECONDS,
    ) -> None:
        self._database = database
        self._metrics = metrics
        self._sources = sources
        self._random = random
        self._lease = lease or Lease(held=True)
        self._soon_seconds = soon_seconds
        self._every_seconds = every_seconds
        self._shown = True

    async def run(self) -> None:
        """Look soon and then now and again until cancelled; soon, too, when the lease comes or goes."""
        wait_seconds = self._soon_seconds
        while True:
            held = self._lease.held
            self._show(held)
            try:
                async with asyncio.timeout(wait_seconds):
                    await (self._lease.lost() if held else self._lease.acquired())
                wait_seconds = self._soon_seconds
            except TimeoutError:
                wait_seconds = self._every_seconds if await self._could_look() else self._soon_seconds

    async def look(self) -> bool:
        """Set the gauge and complain; return whether the books were near enough to tell. Raises StoreUnavailable."""
        found: Sequence[Finding] | None = ()
        if self._lease.held:
            found = await self._database.read(of_one_moment, light, self._random)
        differences = [*(found or ()), *own_differences(self._metrics, self._sources)]
        events = _events(differences)
        if found is not None:
            self._metrics.balance_difference.set(events)
        if differences:
            shown = [finding.look_at for finding in differences[:_SHOWN]]
            log.error("balance_difference", events=events, look_at=shown, hint="headrace verify")
        return found is not None

    async def _could_look(self) -> bool:
        try:
            return await self.look()
        except StoreUnavailable as error:
            log.warning("balance_failed", error=str(error))
            return False

    def _show(self, shown: bool) -> None:
        if shown is not self._shown:
            self._shown = shown
            registry = self._metrics.registry
            (registry.register if shown else registry.unregister)(self._metrics.balance_difference)


def light(connection: Connection, random: Random) -> Sequence[Finding] | None:
    """Return what differs, as far as it can be seen at little cost; None while too much is not in the books."""
    if unposted(connection) > _MOST_UNPOSTED:
        return None
    counted = totals(connection)
    found = [*rows(counted), *positions(connection, counted), *handlers.accounts(connection)]
    found += [*gaps.order(connection), *gaps.intervals(connection)]
    for block in _some_blocks(connection, random):
        found += blocks.look(connection, block - 1, 1).findings
    return found


def own_differences(metrics: Metrics, sources: Sequence[SourceKey]) -> list[Finding]:
    """Return the sources and modes of which this process lost count: received is the sum of what became of it."""
    found = []
    for key in sources:
        counts = metrics.counts(key.source, key.mode)
        received = counts.pop("received")
        if received != (settled := sum(counts.values())):
            look_at = f'headrace_events_*{{source="{key.source}",mode="{key.mode}"}} of this process: {counts}'
            finding = Finding(
                check="process",
                source=key.source,
                mode=key.mode,
                expected=received,
                found=settled,
                difference=settled - received,
                look_at=look_at,
            )
            found.append(finding)
    return found


def _events(differences: Sequence[Finding]) -> int:
    """Return how many events are not accounted for: what several checks miss is mostly the same."""
    by_check: Counter[str] = Counter()
    for finding in differences:
        by_check[finding.check] += abs(finding.difference)
    return max(by_check.values(), default=0)


def _some_blocks(connection: Connection, random: Random) -> list[int]:
    """Return the newest block that is whole, and others by chance."""
    newest = blocks.newest(connection)
    first = connection.execute(select(func.min(blocks_table.c.block))).scalar()
    if newest is None or first is None:
        return []
    return sorted({newest, *(random.randint(first, newest) for _ in range(_BLOCKS))})
