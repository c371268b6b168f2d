"""A whole store verified while it is written to: one check after the other, in moments of a second at most."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeVar

import msgspec
from sqlalchemy import Connection

from storage.database import Database
from storage.verify import blocks, gaps, handlers, ids, losses, references
from storage.verify.finding import Check, Finding, Looked
from storage.verify.snapshot import of_one_moment
from storage.verify.totals import Totals, positions, rows, totals

_MOST = 1000  # differences that are listed

K = TypeVar("K")


class Counted(msgspec.Struct, frozen=True):
    """How many things of a kind a check looked at, and how many differences it found."""

    check: Check
    of: str
    counted: int
    differences: int


class SourceRows(msgspec.Struct, frozen=True):
    """The events of a source and mode that were tallied and have not expired, and those that are there."""

    source: str
    mode: str
    expected: int
    found: int


class Verified(msgspec.Struct, frozen=True):
    """What was verified. `checks` counts all differences; of very many, only the first ones are listed."""

    balances: bool
    sources: Sequence[SourceRows]
    checks: Sequence[Counted]
    differences: Sequence[Finding]


async def size(database: Database) -> int:
    """Return how many events and ids will be read, about. Raises StoreUnavailable."""
    found = await database.read(of_one_moment, totals)
    return sum(map(found.rows, found.sources)) * (3 if database.dialect == "postgresql" else 1)


class Verification:
    """Verifies a store once. `tell` is given how many more events or ids were read."""

    def __init__(self, database: Database, tell: Callable[[int], None]) -> None:
        self._database = database
        self._tell = tell
        self._sources: Sequence[SourceRows] = ()
        self._checks: list[Counted] = []
        self._differences: list[Finding] = []

    async def run(self) -> Verified:
        """Verify everything. Raises StoreUnavailable."""
        await self._totals()
        await self._pages("blocks", "events in blocks of 4,096 positions", blocks.look, -1, self._tell)
        if self._database.dialect == "postgresql":
            await self._pages("ids", "events with an id", ids.look_at_events, 0, self._tell)
            await self._pages("ids", "ids with an event", ids.look_at_ids, ids.FIRST_ID, self._tell)
        await self._once("handlers", "cursors", handlers.count, handlers.accounts)
        await self._once("gaps", "gaps", gaps.count, gaps.order)
        await self._once("gaps", "intervals of coverage", gaps.count_intervals, gaps.intervals)
        for table in references.TABLES:
            await self._pages("references", f"events with {table.name}", partial(references.look, table=table), 0)
        await self._pages("losses", "ranges of numbers", losses.look, 0)
        balances = not any(check.differences for check in self._checks)
        return Verified(balances, self._sources, self._checks, self._differences)

    async def _totals(self) -> None:
        found, misplaced = await self._database.read(of_one_moment, _totals_and_positions)
        self._sources = [
            SourceRows(key.source, key.mode, found.tallied.get(key, 0), found.rows(key)) for key in found.sources
        ]
        self._tell(sum(found.tail.rows.values()))
        self._note("rows", "sources and modes", len(found.sources), list(rows(found)))
        self._note("positions", "positions given", found.head, misplaced)

    async def _once(
        self,
        check: Check,
        of: str,
        count: Callable[[Connection], int],
        find: Callable[[Connection], Iterator[Finding]],
    ) -> None:
        counted, found = await self._database.read(
            of_one_moment, lambda connection: (count(connection), list(find(connection)))
        )
        self._note(check, of, counted, found)

    async def _pages(
        self,
        check: Check,
        of: str,
        look: Callable[[Connection, K], Looked[K]],
        start: K,
        tell: Callable[[int], None] = lambda _count: None,
    ) -> None:
        counted = differences = 0
        after: K | None = start
        while after is not None:
            looked = await self._database.read(of_one_moment, look, after)
            counted, differences = counted + looked.counted, differences + self._keep(looked.findings)
            tell(looked.counted)
            after = looked.after
        self._checks.append(Counted(check, of, counted, differences))

    def _note(self, check: Check, of: str, counted: int, found: Sequence[Finding]) -> None:
        self._checks.append(Counted(check, of, counted, self._keep(found)))

    def _keep(self, found: Sequence[Finding]) -> int:
        """Keep what differs, unless that is too much already; return how many differences it was."""
        self._differences += found[: _MOST - len(self._differences)]
        return len(found)


def _totals_and_positions(connection: Connection) -> tuple[Totals, list[Finding]]:
    found = totals(connection)
    return found, list(positions(connection, found))
