"""Forgets what is older than the retention, in small steps between which the ingestion commits."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

import structlog
from sqlalchemy import ColumnElement, Connection, Table, delete, exists, false, func, select

from ingest.errors import StoreUnavailable
from ingest.leases import Lease
from storage import bulk, skips
from storage.database import P, T
from storage.engine import Database, Work
from storage.rows import to_micros
from storage.store import ADD_UP, TALLY_COLUMNS
from storage.tables import coverage, cursors, deliveries, events, gaps, rejects, sightings, tallies
from storage.transactions import transaction

_STEP_ROWS = 500
_SWEPT_IN_VAIN = 20  # steps of a sweep that find nothing, in a round

log = structlog.get_logger(__name__)


class _Step(NamedTuple):
    """The result of a step: rows that went, whether young ones were among what it saw, and the last it saw (or 0)."""

    gone: int
    saw_young: bool
    last: int
    skipped: Mapping[str, int] = {}  # by handler


@dataclass(slots=True)
class _Walk:
    """The state of the walks through a table.

    Up to `settled` all was forgotten or stays for a reason of its own (a dead letter's event, a date in the future).
    Behind it the old rows come first, as far as clocks were right; `swept` goes round through all the others, slowly.
    """

    table: str
    settled: int = 0
    swept: int = 0


class Retention:
    """Deletes events and rejects received, and coverage and gaps that were over, longer than `keep` ago.

    It looks every `every_seconds`. What a handler of `handlers` has not passed stays: retention takes an event from a
    configured handler only where that is paused for longer than `keep`. Such a loss has a row in `skipped`, a line in
    the log, and is told to `count_skipped`. Dead letters stay with their events until they are redriven or deleted.
    """

    def __init__(
        self,
        database: Database,
        keep: timedelta,
        handlers: Sequence[str],
        clock: Callable[[], datetime],
        every_seconds: float = 60.0,
        count_skipped: Callable[[str, int], None] = lambda _handler, _count: None,
        lease: Lease | None = None,
    ) -> None:
        self._database = database
        self._keep = keep
        self._handlers = tuple(handlers)
        self._clock = clock
        self._every_seconds = every_seconds
        self._count_skipped = count_skipped
        self._lease = lease or Lease(held=True)
        self._events, self._rejects = _Walk("events"), _Walk("rejects")

    async def run(self) -> None:
        """Forget now and again until cancelled, while the lease is this process's."""
        while True:
            await self._lease.acquired()
            try:
                forgotten = await self.purge()
                if forgotten:
                    log.info("retention", events=forgotten)
            except StoreUnavailable as error:
                log.warning("retention_failed", error=str(error))
            await asyncio.sleep(self._every_seconds)

    async def lag_seconds(self) -> float:
        """Return how long ago the oldest event was due that is still here. Raises StoreUnavailable."""
        oldest = await self._database.read(_oldest_behind, self._events.settled)
        due = self._clock() - self._keep
        return 0.0 if oldest is None else max(0.0, (to_micros(due) - oldest) / 1_000_000)

    async def purge(self) -> int:
        """Forget all that is due now, in steps; return how many events went."""
        now = to_micros(self._clock())
        before = now - int(self._keep.total_seconds() * 1_000_000)
        await self._go_through(self._rejects, before, now)
        while await self._write(_forget_others, before):
            pass
        return await self._go_through(self._events, before, now)

    async def _go_through(self, walk: _Walk, before: int, now: int) -> int:
        """Forget from the front until a step sees young rows only, then go on with the sweep; return how many went."""
        total, after, is_front = 0, walk.settled, True
        while (step := await self._step(walk.table, after, before, now)).last:
            total, after, is_front = total + step.gone, step.last, is_front and not step.saw_young
            if is_front:
                walk.settled = after
            elif not step.gone:
                break
        in_vain = 0
        while in_vain < _SWEPT_IN_VAIN:
            step = await self._step(walk.table, walk.swept, before, now)
            total, walk.swept = total + step.gone, step.last
            if not step.last:
                break
            in_vain += not step.gone
        return total

    async def _step(self, table: str, after: int, before: int, now: int) -> _Step:
        work = _step_of_events if table == "events" else _step_of_rejects
        step = await self._write(work, after, before, now, self._handlers)
        for handler, count in step.skipped.items():
            self._count_skipped(handler, count)
            log.error("events_skipped", handler=handler, events=count, consequence="it was paused, and never had them")
        return step

    async def _write(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Write, and leave half of the time to the ingestion."""
        started = time.monotonic()
        result = await self._database.write(work, *args, **kwargs)
        await asyncio.sleep(time.monotonic() - started)
        return result


def _oldest_behind(connection: Connection, settled: int) -> int | None:
    """When the first event behind that position was received, in microseconds."""
    oldest = select(events.c.received_at).where(events.c.position > settled).order_by(events.c.position).limit(1)
    return connection.execute(oldest).scalar()


@transaction
def _step_of_events(connection: Connection, after: int, before: int, now: int, handlers: tuple[str, ...]) -> _Step:
    key = events.c.position
    is_dead = exists().where(deliveries.c.position == key, deliveries.c.due_at.is_(None))
    step, positions = _judge(
        connection, events, key, (key > after, key < _first_needed(connection, handlers, before)), is_dead, before, now
    )
    if not positions:
        return step
    skipped = skips.note(connection, handlers, positions)
    connection.execute(delete(sightings).where(sightings.c.position.in_(positions)))
    skips.delete_parked(connection, positions)
    gone = delete(events).where(key.in_(positions)).returning(events.c.source, events.c.mode)
    # Counted by what went and not by what was found: another replica may be at the same rows.
    counts = Counter((row.source, row.mode) for row in connection.execute(gone))
    expired = [(source, mode, now // 60_000_000, "expired", count) for (source, mode), count in sorted(counts.items())]
    bulk.insert(connection, tallies, TALLY_COLUMNS, expired, ADD_UP)
    return step._replace(gone=counts.total(), skipped=skipped)


@transaction
def _step_of_rejects(connection: Connection, after: int, before: int, now: int, _: tuple[str, ...]) -> _Step:
    step, ids = _judge(connection, rejects, rejects.c.id, (rejects.c.id > after,), false(), before, now)
    return step._replace(gone=_delete(connection, rejects, ids))


def _judge(
    connection: Connection,
    table: Table,
    key: ColumnElement[int],
    where: Sequence[ColumnElement[bool]],
    stays: ColumnElement[bool],
    before: int,
    now: int,
) -> tuple[_Step, list[int]]:
    """Look at the next rows, each by itself; return what was seen, and the keys of those that are due."""
    query = select(key, table.c.received_at, stays).where(*where).order_by(key).limit(_STEP_ROWS)
    rows = connection.execute(query).all()
    due = [number for number, received_at, is_kept in rows if received_at < before and not is_kept]
    saw_young = any(before <= received_at <= now for _, received_at, _ in rows)
    return _Step(0, saw_young, rows[-1][0] if rows else 0), due


@transaction
def _forget_others(connection: Connection, before: int) -> int:
    return _forget_coverage(connection, before) + _forget_gaps(connection, before)


def _forget_coverage(connection: Connection, before: int) -> int:
    """Never the newest interval of a source and mode: the next process reads there since when nobody listened."""
    gone = 0
    for source, mode in connection.execute(select(coverage.c.source, coverage.c.mode).distinct()).all():
        of_source = (coverage.c.source == source, coverage.c.mode == mode)
        newest_first = (coverage.c.until.desc(), coverage.c.id.desc())
        newest = select(coverage.c.id).where(*of_source).order_by(*newest_first).limit(1).scalar_subquery()
        old = (
            select(coverage.c.id)
            .where(*of_source, coverage.c.until < before, coverage.c.ended, coverage.c.id != newest)
            .limit(_STEP_ROWS)
        )
        gone += _delete(connection, coverage, connection.execute(old).scalars().all())
    return gone


def _forget_gaps(connection: Connection, before: int) -> int:
    old = select(gaps.c.id).where(gaps.c.until < before).order_by(gaps.c.id).limit(_STEP_ROWS)
    return _delete(connection, gaps, connection.execute(old).scalars().all())


def _delete(connection: Connection, table: Table, ids: Sequence[int]) -> int:
    if ids:
        connection.execute(delete(table).where(table.c.id.in_(ids)))
    return len(ids)


def _first_needed(connection: Connection, handlers: tuple[str, ...], before: int) -> int:
    """Return the lowest position that a handler still has to deliver: behind its cursor, or parked and not dead.

    One that is paused since `before` needs nothing.
    """
    paused = select(cursors.c.handler).where(cursors.c.paused_at < before)
    waits = (cursors.c.handler.in_(handlers), cursors.c.handler.not_in(paused))
    passed = connection.execute(select(func.min(cursors.c.position)).where(*waits)).scalar()
    first_parked = select(func.min(deliveries.c.position)).where(
        deliveries.c.handler.in_(handlers), deliveries.c.handler.not_in(paused), deliveries.c.due_at.is_not(None)
    )
    parked = connection.execute(first_parked).scalar()
    needed = [value for value in (None if passed is None else passed + 1, parked) if value is not None]
    return min(needed, default=2**62)
