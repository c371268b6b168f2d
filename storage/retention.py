"""Forgets what is older than the retention, in small steps between which the ingestion commits."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import structlog
from sqlalchemy import Connection, Table, delete, func, select

from ingest.errors import StoreUnavailable
from storage import bulk
from storage.engine import Database
from storage.rows import micros
from storage.store import ADD_UP, TALLY_COLUMNS
from storage.tables import coverage, cursors, deliveries, events, gaps, rejects, sightings, tallies

_STEP_ROWS = 500

log = structlog.get_logger(__name__)


class Retention:
    """Deletes events and rejects received, and coverage and gaps that were over, longer than `keep` ago.

    It looks every `every_seconds`. What a handler of `handlers` has not passed stays: retention never takes an event
    away from a configured handler.
    """

    def __init__(
        self,
        database: Database,
        keep: timedelta,
        handlers: Sequence[str],
        clock: Callable[[], datetime],
        every_seconds: float = 60.0,
    ) -> None:
        self._database = database
        self._keep = keep
        self._handlers = tuple(handlers)
        self._clock = clock
        self._every_seconds = every_seconds

    async def run(self) -> None:
        """Forget now and again until cancelled."""
        while True:
            try:
                forgotten = await self.forget()
                if forgotten:
                    log.info("retention", events=forgotten)
            except StoreUnavailable as error:
                log.warning("retention_failed", error=str(error))
            await asyncio.sleep(self._every_seconds)

    async def forget(self) -> int:
        """Forget all that is due now, in steps; return how many events went."""
        now = self._clock()
        before = micros(now - self._keep)
        total = 0
        while True:
            started = time.monotonic()
            events_gone, others_gone = await self._database.write(
                _step, before, self._handlers, micros(now) // 60_000_000
            )
            total += events_gone
            if not events_gone and not others_gone:
                return total
            await asyncio.sleep(time.monotonic() - started)  # half of the time belongs to the ingestion


def _step(connection: Connection, before: int, handlers: tuple[str, ...], minute: int) -> tuple[int, int]:
    others = (
        _forget_rejects(connection, before) + _forget_coverage(connection, before) + _forget_gaps(connection, before)
    )
    return _forget_events(connection, before, handlers, minute), others


def _forget_events(connection: Connection, before: int, handlers: tuple[str, ...], minute: int) -> int:
    first = (
        select(events.c.position, events.c.received_at)
        .where(events.c.position < _first_needed(connection, handlers))
        .order_by(events.c.position)
        .limit(_STEP_ROWS)
    )
    positions = [row.position for row in connection.execute(first) if row.received_at < before]
    if not positions:
        return 0
    for table in (sightings, deliveries):
        connection.execute(delete(table).where(table.c.position.in_(positions)))
    gone = delete(events).where(events.c.position.in_(positions)).returning(events.c.source, events.c.mode)
    # Counted by what went and not by what was found: another replica may be at the same rows.
    counts = Counter((row.source, row.mode) for row in connection.execute(gone))
    expired = [(source, mode, minute, "expired", count) for (source, mode), count in sorted(counts.items())]
    bulk.insert(connection, tallies, TALLY_COLUMNS, expired, ADD_UP)
    return counts.total()


def _forget_rejects(connection: Connection, before: int) -> int:
    first = select(rejects.c.id, rejects.c.received_at).order_by(rejects.c.id).limit(_STEP_ROWS)
    return _delete(connection, rejects, [row.id for row in connection.execute(first) if row.received_at < before])


def _forget_coverage(connection: Connection, before: int) -> int:
    """Never the newest interval of a source and mode: the next process reads there since when nobody listened."""
    first = select(coverage).order_by(coverage.c.id).limit(_STEP_ROWS)
    old = [row for row in connection.execute(first) if row.ended and row.until < before]
    newest = {(row.source, row.mode): _newest_interval(connection, row.source, row.mode) for row in old}
    return _delete(connection, coverage, [row.id for row in old if row.id != newest[row.source, row.mode]])


def _newest_interval(connection: Connection, source: str, mode: str) -> int | None:
    newest = (
        select(coverage.c.id)
        .where(coverage.c.source == source, coverage.c.mode == mode)
        .order_by(coverage.c.until.desc(), coverage.c.id.desc())
        .limit(1)
    )
    return connection.execute(newest).scalar()


def _forget_gaps(connection: Connection, before: int) -> int:
    first = select(gaps.c.id, gaps.c.until).order_by(gaps.c.id).limit(_STEP_ROWS)
    old = [row.id for row in connection.execute(first) if row.until is not None and row.until < before]
    return _delete(connection, gaps, old)


def _delete(connection: Connection, table: Table, ids: Sequence[int]) -> int:
    if ids:
        connection.execute(delete(table).where(table.c.id.in_(ids)))
    return len(ids)


def _first_needed(connection: Connection, handlers: tuple[str, ...]) -> int:
    """The lowest position that a handler still has to deliver: behind its cursor, or parked and not dead."""
    passed = connection.execute(select(func.min(cursors.c.position)).where(cursors.c.handler.in_(handlers))).scalar()
    parked = connection.execute(
        select(func.min(deliveries.c.position)).where(
            deliveries.c.handler.in_(handlers), deliveries.c.due_at.is_not(None)
        )
    ).scalar()
    needed = [value for value in (None if passed is None else passed + 1, parked) if value is not None]
    return min(needed, default=2**62)
