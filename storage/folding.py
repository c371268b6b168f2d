"""Keeps tallies and batches small for ever: by hour after a day, by day after a month, by year after a year.

So too the echoes of webhooks: none is kept for longer than a month.

Sums of tallies stay exact. Every process of a store may do this at any time: only what it deleted itself is what it
adds up.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import datetime

import structlog
from sqlalchemy import Connection, delete, select

from ingest.errors import StoreUnavailable
from storage import bulk
from storage.engine import Database
from storage.gaps import SourceKey
from storage.gently import write_gently
from storage.hook_echoes import forget_hour
from storage.rows import to_micros
from storage.store import TALLY_COLUMNS
from storage.tables import batches, tallies
from storage.transactions import transaction
from storage.usual import WIDEST_MINUTES

_EVERY_SECONDS = 3600.0
_STEP_ROWS = 500
_MINUTE_MICROS = 60_000_000
_DAY = 24 * 60  # minutes, as all here
# What is older than the first is kept by the second.
_LEVELS = ((_DAY, 60), (31 * _DAY, _DAY), (366 * _DAY, WIDEST_MINUTES))
# Whoever looks up its batch asks within seconds.
_BATCH_MICROS = _DAY * _MINUTE_MICROS
_ECHO_MICROS = 31 * _DAY * _MINUTE_MICROS  # where the retention is longer
_COLUMNS = (*TALLY_COLUMNS, "minutes")
_ADD_UP = (
    "ON CONFLICT (source, mode, minute, outcome)"
    " DO UPDATE SET count = tallies.count + excluded.count, minutes = excluded.minutes"
)

log = structlog.get_logger(__name__)


class Folding:
    """Folds what is old enough every hour, in small transactions between which the ingestion commits."""

    def __init__(
        self, database: Database, clock: Callable[[], datetime], every_seconds: float = _EVERY_SECONDS
    ) -> None:
        self._database = database
        self._clock = clock
        self._every_seconds = every_seconds

    async def run(self) -> None:
        """Fold now and again until cancelled."""
        while True:
            try:
                await self.fold()
            except StoreUnavailable as error:
                log.warning("folding_failed", error=str(error))
            await asyncio.sleep(self._every_seconds)

    async def fold(self) -> None:
        """Fold all that is old enough now, forget old batches and echoes. Raises StoreUnavailable."""
        now = to_micros(self._clock())
        while await write_gently(self._database, 1, _forget_batches, now - _BATCH_MICROS):
            pass
        while await write_gently(self._database, 1, forget_hour, now - _ECHO_MICROS):
            pass
        for key in await self._database.read(_keys):
            for age, width in _LEVELS:
                before = now // _MINUTE_MICROS - age
                after: int | None = -1
                while after is not None:
                    after = await write_gently(self._database, 1, _fold_step, key, after, before, width)


def _keys(connection: Connection) -> list[SourceKey]:
    """Return the sources and modes that have tallies, by a look into the index for each."""
    found: list[SourceKey] = []
    query = select(tallies.c.source, tallies.c.mode).order_by(tallies.c.source, tallies.c.mode).limit(1)
    row = connection.execute(query).first()
    while row is not None:
        found.append(SourceKey(*row))
        later = (tallies.c.source == row.source) & (tallies.c.mode > row.mode)
        of_source = connection.execute(query.where(later)).first()
        row = of_source or connection.execute(query.where(tallies.c.source > row.source)).first()
    return found


@transaction
def _fold_step(connection: Connection, key: SourceKey, after: int, before: int, width: int) -> int | None:
    """Fold the next rows of a source and mode into stretches of `width` minutes; return how far, None at the end.

    Only stretches that are over `before`, and never the one with the last arrival: when that was stays known.
    """
    of = (tallies.c.source == key.source, tallies.c.mode == key.mode)
    arrived = select(tallies.c.minute).where(*of, tallies.c.outcome != "expired")
    last = connection.execute(arrived.order_by(tallies.c.minute.desc()).limit(1)).scalar()
    end = min(before, before if last is None else last) // width * width
    narrow = (*of, tallies.c.minutes < width)
    next_ones = select(tallies.c.minute).where(*narrow, tallies.c.minute > after, tallies.c.minute < end)
    minutes = connection.execute(next_ones.order_by(tallies.c.minute).limit(_STEP_ROWS)).scalars().all()
    if not minutes:
        return None
    first, behind = int(minutes[0]) // width * width, int(minutes[-1]) // width * width + width
    gone = delete(tallies).where(*narrow, tallies.c.minute >= first, tallies.c.minute < behind)
    sums: Counter[tuple[int, str]] = Counter()
    for minute, outcome, count in connection.execute(
        gone.returning(tallies.c.minute, tallies.c.outcome, tallies.c.count)
    ):
        sums[minute // width * width, outcome] += count
    rows = [(*key, minute, outcome, count, width) for (minute, outcome), count in sorted(sums.items())]
    bulk.insert(connection, tallies, _COLUMNS, rows, _ADD_UP)
    return behind - 1


@transaction
def _forget_batches(connection: Connection, before: int) -> int:
    """Forget some that were committed before; return how many. SQLite has none: no COMMIT goes unanswered there."""
    if connection.dialect.name == "sqlite":
        return 0
    old = select(batches.c.writer).where(batches.c.committed_at < before).limit(_STEP_ROWS)
    gone = connection.execute(delete(batches).where(batches.c.writer.in_(old)).returning(batches.c.writer)).all()
    return len(gone)
