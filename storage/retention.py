"""Forgets what is older than the retention, in small steps between which the ingestion commits."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import takewhile
from typing import NamedTuple

import structlog
from sqlalchemy import ColumnElement, Connection, Table, delete, exists, false, func, select

from ingest.errors import StoreUnavailable
from ingest.leases import Lease
from storage import bulk, partitions, skips, whole_partitions
from storage.books import BOOKS, checksums, comparison, devices
from storage.books.place import take_place
from storage.engine import Database
from storage.gently import write_gently
from storage.hook_echoes import forget_hour
from storage.partitions import Partition
from storage.rows import to_micros
from storage.sequences import forget_losses
from storage.store import ADD_UP, TALLY_COLUMNS
from storage.tables import coverage, cursors, deliveries, events, gaps, ids, messages, rejects, sightings, tallies
from storage.transactions import transaction

_STEP_ROWS = 500
_PARTS = 4  # of the retention: rows of a partition that was filled in less go with it
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
    """Deletes what is older than `keep`: events and rejects, and coverage, gaps, losses and comparisons that were over.

    Also what is known of devices of which nothing was heard for so long, not all of them in the same round.

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
        self._swept_devices = ("", "")  # a step in each round: of a million, each is looked at within a day
        self._together = (0, 0)  # from which position up to which one events go with their partition
        self._due_together: int | None = None  # when the last one of the first of these came, in microseconds

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
        oldest = await self._database.read(_oldest_behind, self._events.settled, self._together)
        found = [at for at in (oldest, self._due_together) if at is not None]
        due = to_micros(self._clock() - self._keep)
        return max(0.0, (due - min(found)) / 1_000_000) if found else 0.0

    async def purge(self) -> int:
        """Forget all that is due now, in steps; return how many events went."""
        now = to_micros(self._clock())
        before = now - int(self._keep.total_seconds() * 1_000_000)
        await self._go_through(self._rejects, before, now)
        while await write_gently(self._database, 1, _forget_others, before):
            pass
        self._swept_devices = await write_gently(self._database, 1, devices.forget_some, before, self._swept_devices)
        whole = 0 if self._database.dialect == "sqlite" else await self._go_whole(before, now)
        return whole + await self._go_through(self._events, before, now)

    async def _go_whole(self, before: int, now: int) -> int:
        """Take out the partitions that are due as a whole, and forget what is out; return how many events went."""
        total = 0
        while (whole := await self._look_at_partitions(before)) is not None:
            try:
                out = await self._database.alter(whole_partitions.take_out, whole, before, now, self._handlers)
            except StoreUnavailable as error:  # others read and write too busily now, or it is away
                log.warning("partition_stays", partition=whole.name, error=str(error))
                break
            if out is None:
                break
            total += out.gone
            self._tell_skipped(out.skipped)
        for name in await self._database.read(partitions.taken_out):
            after = 0
            while after := await write_gently(self._database, 1, whole_partitions.forget_some, name, after):
                pass
        return total

    async def _look_at_partitions(self, before: int) -> Partition | None:
        """Return the oldest partition where all of it is due. Rows of one that soon will be are not looked at alone."""
        kept, filled = await self._database.read(partitions.filled)
        most = int(self._keep.total_seconds() * 1_000_000) // _PARTS
        # Up to the first that takes longer: what waits in that one would wait for all that come after it.
        soon = list(takewhile(lambda one: one.took <= most, filled))
        self._together = (kept.end, soon[-1].partition.end) if soon else (0, 0)
        self._due_together = soon[0].last_at if soon else None
        if filled and (filled[0].last_at is None or filled[0].last_at < before):
            return filled[0].partition
        return None

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
        span = after, before, now
        if table == "events":
            held = self._handlers, self._together
            step = await write_gently(self._database, 1, _step_of_events, *span, *held)
        else:
            step = await write_gently(self._database, 1, _step_of_rejects, *span)
        self._tell_skipped(step.skipped)
        return step

    def _tell_skipped(self, skipped: Mapping[str, int]) -> None:
        for handler, count in skipped.items():
            self._count_skipped(handler, count)
            log.error("events_skipped", handler=handler, events=count, consequence="it was paused, and never had them")


def _stretches(after: int, together: tuple[int, int]) -> list[tuple[ColumnElement[bool], ...]]:
    """Return the conditions of the positions behind `after`, before and behind those that go together."""
    key, (first, end) = events.c.position, together
    stretches: list[tuple[ColumnElement[bool], ...]] = [(key > max(after, end - 1),)]
    return [(key > after, key < first), *stretches] if after + 1 < first else stretches


def _oldest_behind(connection: Connection, settled: int, together: tuple[int, int]) -> int | None:
    """When the first event behind that position was received, in microseconds."""
    for stretch in _stretches(settled, together):
        oldest = select(events.c.received_at).where(*stretch).order_by(events.c.position).limit(1)
        if (at := connection.execute(oldest).scalar()) is not None:
            return int(at)
    return None


@transaction
def _step_of_events(
    connection: Connection, after: int, before: int, now: int, handlers: tuple[str, ...], together: tuple[int, int]
) -> _Step:
    key = events.c.position
    is_dead = exists().where(deliveries.c.position == key, deliveries.c.due_at.is_(None))
    needed = key < _first_needed(connection, handlers, before)
    step, positions = _Step(0, False, 0), list[int]()
    for stretch in _stretches(after, together):
        step, positions = _judge(connection, events, key, (*stretch, needed), is_dead, before, now)
        if step.last:
            break
    if not positions:
        return step
    skipped = skips.note(connection, handlers, positions)
    connection.execute(delete(sightings).where(sightings.c.position.in_(positions)))
    connection.execute(delete(messages).where(messages.c.position.in_(positions)))
    skips.delete_parked(connection, positions)
    gone = delete(events).where(key.in_(positions)).returning(key, events.c.id, events.c.source, events.c.mode)
    rows = connection.execute(gone).all()
    if connection.dialect.name == "postgresql":
        connection.execute(delete(ids).where(ids.c.id.in_([row.id for row in rows])))
    # Counted by what went and not by what was found: another replica may be at the same rows.
    counts = Counter((row.source, row.mode) for row in rows)
    expired = [(source, mode, now // 60_000_000, "expired", count) for (source, mode), count in sorted(counts.items())]
    bulk.insert(connection, tallies, TALLY_COLUMNS, expired, ADD_UP)
    posted = take_place(connection, BOOKS)
    checksums.take_off(
        connection,
        checksums.sums_of((row.position, row.id.int, row.source, row.mode) for row in rows if row.position <= posted),
    )
    return step._replace(gone=counts.total(), skipped=skipped)


@transaction
def _step_of_rejects(connection: Connection, after: int, before: int, now: int) -> _Step:
    step, due = _judge(connection, rejects, rejects.c.id, (rejects.c.id > after,), false(), before, now)
    return step._replace(gone=_delete(connection, rejects, due))


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
    losses = forget_losses(connection, before, _STEP_ROWS)
    others = forget_hour(connection, before) + comparison.forget(connection, before)
    return _forget_coverage(connection, before) + _forget_gaps(connection, before) + losses + others


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


def _delete(connection: Connection, table: Table, keys: Sequence[int]) -> int:
    if keys:
        connection.execute(delete(table).where(table.c.id.in_(keys)))
    return len(keys)


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
