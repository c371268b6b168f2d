"""The processes on one PostgreSQL: who lives, by the database's clock, and who holds which lease.

A round is one short transaction a second, in which a process renews its row, takes what is free and its to have, and
gives back what others should. It keeps all of its leases by that one row, so nothing more is written however many it
has. Nothing outlives a transaction: no session lock, so a pooler may stand between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

import structlog
from sqlalchemy import ColumnElement, Connection, and_, delete, func, select, update

from ingest.errors import StoreUnavailable
from ingest.leases import Lease, spread
from ingest.retrying import is_cancelled, wait_at_most
from ingest.times import elapsed
from storage import bulk
from storage.clock import database_now
from storage.engine import Database
from storage.tables import leases, replicas
from storage.transactions import transaction

LEASE_MICROS = 10_000_000
ALIVE_MICROS = 3_000_000  # a process that has not renewed its row for so long listens to nothing any more
_SURE_SECONDS = 8.0  # an answer took a while, and the database's clock may run faster than ours
_ROUND_SECONDS = 1.0
_LOOK_SECONDS = 0.25
_LEAVE_SECONDS = 2.0
_LOCK = 0x4865_6164_6C65_6173  # of the rounds: they see what the one before did
_NEW_LEASE = ("name", "holder", "epoch")
_ROW = ("holder", "expires_at", "wants")
_RENEW = "ON CONFLICT (holder) DO UPDATE SET expires_at = excluded.expires_at, wants = excluded.wants"

log = structlog.get_logger(__name__)


class Round(NamedTuple):
    """What a process holds after a round, and how many others live."""

    held: Sequence[str]
    peers: int


class SqlLeases:
    """protocols.Leases. `database` has a connection of its own: a full pool or a slow commit loses no lease."""

    def __init__(
        self,
        database: Database,
        holder: str,
        *,
        round_seconds: float = _ROUND_SECONDS,
        clock: Callable[[], float] = elapsed,
    ) -> None:
        self.holder = holder
        self.peers = 0
        self._database = database
        self._round_seconds = round_seconds
        self._clock = clock
        self._leases: dict[str, Lease] = {}
        self._sure_until = float("-inf")
        self._turn = asyncio.Lock()
        self._leaving = False
        self._soon = asyncio.Event()

    def lease(self, name: str) -> Lease:
        """See protocols.Leases."""
        self._soon.set()
        return self._leases.setdefault(name, Lease())

    async def run(self) -> None:
        """See protocols.Leases."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch())
            while not is_cancelled():
                self._soon.clear()
                await self._go_round()
                await wait_at_most(self._soon, self._round_seconds)

    async def join(self) -> None:
        """See protocols.Leases."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_LEAVE_SECONDS):
                await self._go_round()

    async def leave(self) -> None:
        """See protocols.Leases."""
        await self.join()  # who came just now is to take over
        if self.peers:
            self._leaving = True
            await self.join()
            self._hold(())

    async def close(self) -> None:
        """Let others see at once that this process listens no more."""
        try:
            async with asyncio.timeout(_LEAVE_SECONDS):
                await self._database.write(forget, self.holder)
        except (StoreUnavailable, TimeoutError) as error:
            log.warning("replica_not_forgotten", error=str(error) or "no answer in time", consequence="it runs out")

    async def _go_round(self) -> None:
        try:
            async with self._turn:
                asked_at, wanted = self._clock(), () if self._leaving else tuple(sorted(self._leases))
                found = await self._database.write(go_round, self.holder, wanted)
                self._sure_until = asked_at + _SURE_SECONDS
                self.peers = found.peers
                self._hold(found.held)
        except StoreUnavailable as error:
            log.warning("leases_not_renewed", error=str(error))
        except Exception:  # whatever it is: what is held runs out, and others take it
            log.exception("leases_not_renewed")

    async def _watch(self) -> None:
        """Let go of what may have run out: no answer came for long, or the process was suspended."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            if self._clock() > self._sure_until:
                self._hold(())

    def _hold(self, names: Sequence[str]) -> None:
        for name, lease in self._leases.items():
            if lease.held is not (name in names):
                lease.change(held=name in names)
                log.info("lease_taken" if lease.held else "lease_let_go", lease=name)


@transaction
def go_round(connection: Connection, holder: str, wanted: tuple[str, ...]) -> Round:
    """Renew a process's row; take and give back what `spread` says."""
    connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
    now = database_now(connection)
    bulk.insert(connection, replicas, _ROW, [(holder, now + LEASE_MICROS, "\n".join(wanted))], _RENEW)
    connection.execute(delete(replicas).where(~is_unexpired(now)))
    wants = {row.holder: frozenset(row.wants.splitlines()) for row in connection.execute(select(replicas))}
    held = {row.name: row.holder for row in connection.execute(select(leases)) if row.holder in wants}
    changes = spread(holder, wants, held)
    if changes.taken:
        new = [(name, None, 0) for name in changes.taken]
        bulk.insert(connection, leases, _NEW_LEASE, new, "ON CONFLICT (name) DO NOTHING")
        taken = update(leases).where(leases.c.name.in_(changes.taken))
        connection.execute(taken.values(holder=holder, epoch=leases.c.epoch + 1))
    mine = {name for name, whose in held.items() if whose == holder}
    if given := (mine - {*wanted}) | {*changes.given}:
        connection.execute(update(leases).where(leases.c.name.in_(given)).values(holder=None))
    others = [process for process, wishes in wants.items() if wishes and process != holder]
    return Round(sorted((mine - given) | {*changes.taken}), len(others))


@transaction
def forget(connection: Connection, holder: str) -> None:
    """Delete the row of a process."""
    connection.execute(delete(replicas).where(replicas.c.holder == holder))


def is_alive(now: int) -> ColumnElement[bool]:
    """Match the rows of processes that have renewed them within three seconds."""
    return and_(is_unexpired(now), replicas.c.expires_at >= now + LEASE_MICROS - ALIVE_MICROS)


def is_unexpired(now: int) -> ColumnElement[bool]:
    """Match the rows that are in force; one that ends later than any can was made before the clock was set back."""
    return replicas.c.expires_at.between(now, now + 2 * LEASE_MICROS)
