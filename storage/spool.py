"""A store in front of PostgreSQL that goes on while that is away: records are then durable in this replica's spool.

What is in the spool goes to PostgreSQL first, in its order, and by a name that PostgreSQL remembers, so that none of it
is committed twice; only then is anything newer committed there.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, aclosing, suppress
from datetime import datetime
from typing import NamedTuple, Protocol

import structlog

from ingest.errors import HeadraceError, StoreUnavailable
from ingest.event import Commit, Event, Outcome, Record, Reject
from ingest.metrics import Metrics
from storage.database import CommitUnanswered
from storage.rows import to_micros
from storage.spool_file import Row, SpoolFile, Totals
from storage.store import SqlStore, is_away

_PATIENCE_SECONDS = 4.0  # longer than a commit waits for a lock, shorter than any sender waits
_RETRY_SECONDS = 0.5
_FAULT_SECONDS = 10.0
_CHUNK_RECORDS = 1000
_FEW_RECORDS = 1000  # so many are drained at once, and what is newer waits for it
_SLACK_RECORDS = 2000
_CLOSE_SECONDS = 5.0

log = structlog.get_logger(__name__)


class SpoolState(NamedTuple):
    """The records in the spool, their bytes, and for how many seconds the oldest has waited."""

    records: int
    bytes: int
    oldest_seconds: float


class Counts(Protocol):
    """Told what became of events that were settled as SPOOLED."""

    def count_drained(self, records: Sequence[Record], outcomes: Sequence[Outcome]) -> None:
        """Count an outcome for each event among the records."""
        ...


class SpooledStore:
    """protocols.Store. An event that is kept in the spool is SPOOLED; what a Reject or an Ignored is, is known.

    A commit that has not returned for `patience_seconds` counts as failed. `watched` notes how commits to PostgreSQL
    end. `prepare` is awaited before anything is given to PostgreSQL, and raises where that cannot be used yet. Once it
    returned it is not asked again: a server that runs goes on with the next schema.
    """

    def __init__(
        self,
        make_store: Callable[[], SqlStore],
        file: SpoolFile,
        counts: Counts,
        clock: Callable[[], datetime],
        *,
        watched: Callable[[], AbstractContextManager[None]],
        prepare: Callable[[], Awaitable[None]],
        patience_seconds: float = _PATIENCE_SECONDS,
        retry_seconds: float = _RETRY_SECONDS,
    ) -> None:
        self._store = make_store()
        self._spare = make_store()  # for what is refused: its batches have names of their own
        self._file = file
        self._counts = counts
        self._clock = clock
        self._watched = watched
        self._prepare: Callable[[], Awaitable[None]] | None = prepare
        self._patience_seconds = patience_seconds
        self._retry_seconds = retry_seconds
        self._writer = secrets.token_hex(8)
        self._totals = Totals()
        self._spooling, self._away = True, False  # until `prepare` was well, and nothing waits
        self._fault: str | None = None
        self._appends = self._appending = 0
        self._appended = self._drained = 0  # records, since PostgreSQL is back
        self._given_up: asyncio.Task[Commit] | None = None  # a commit to PostgreSQL that may still end well
        self._given_up_outcomes: Sequence[Outcome] | None = None  # of it, where its COMMIT may have happened
        self._unanswered: tuple[int, Sequence[Outcome]] | None = None  # so too, of rows up to a number
        self._work = asyncio.Event()
        self._moved = asyncio.Event()

    async def open(self) -> None:
        """Take up what an earlier process left. Raises ConfigurationError, StoreUnavailable."""
        self._totals = await self._file.open(self._writer)
        if self._totals.records:
            log.warning("spool_found", records=self._totals.records, bytes=self._totals.bytes)
        self._work.set()

    async def commit(self, records: Sequence[Record]) -> Commit:
        """See protocols.Store. Raises StoreUnavailable where the spool takes nothing either."""
        while self._spooling:
            if self._away or self._keeps_pace(len(records)):
                return await self._keep(records, None)
            await self._moved.wait()
        number = self._store.next_number()
        committing = asyncio.create_task(self._commit_directly(records, number))
        done, _ = await asyncio.wait([committing], timeout=self._patience_seconds)
        try:
            if done:
                return committing.result()
            reason = f"no answer for {self._patience_seconds:g} s"
        except StoreUnavailable as error:
            reason = str(error)
        log.warning("spooling", because=reason)
        self._given_up = committing
        self._spooling = self._away = True
        return await self._keep(records, (self._store.writer_of(number), number))

    def fault(self) -> str | None:
        """Return why the spool takes nothing; None where it does, as far as is known."""
        return self._fault

    def state(self) -> SpoolState:
        """Return what waits."""
        records, size, oldest_at = self._totals
        waited = 0.0 if oldest_at is None or not records else (to_micros(self._clock()) - oldest_at) / 1e6
        return SpoolState(records, size, max(0.0, waited))

    def show(self, metrics: Metrics) -> None:
        """Let the gauges show what waits."""
        gauges = metrics.spool
        gauges.events.set_function(lambda: self._totals.records)
        gauges.bytes.set_function(lambda: self._totals.bytes)
        gauges.oldest_seconds.set_function(lambda: self.state().oldest_seconds)

    async def run(self) -> None:
        """Drain whenever something waits, until cancelled."""
        while True:
            await self._work.wait()
            try:
                await self._drain()
                continue
            except StoreUnavailable:  # whoever watches the store has said so
                wait_seconds = self._retry_seconds
            except Exception as error:  # it must not end draining for good
                wait_seconds = _FAULT_SECONDS
                log.error("spool_not_drained", error=str(error), exc_info=not isinstance(error, HeadraceError))
            self._away = True
            self._fault = None  # there may be room by now: the next commit tells
            self._move()
            await asyncio.sleep(wait_seconds)

    async def close(self) -> None:
        """Let go of the file, which the next process finds."""
        if self._given_up is not None:
            self._given_up.cancel()
        await self._file.close()

    async def drained(self, seconds: float = _CLOSE_SECONDS) -> None:
        """Wait until nothing waits any more, if PostgreSQL is there, for so long at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._spooling and not self._away:
                    await self._moved.wait()

    async def _commit_directly(self, records: Sequence[Record], number: int) -> Commit:
        with self._watched():
            return await self._store.commit(records, number)

    async def _keep(self, records: Sequence[Record], tried: tuple[str, int] | None) -> Commit:
        """Put records into the spool."""
        self._appending += 1
        try:
            if self._totals.bytes >= self._file.room():
                raise StoreUnavailable("the database is away, and the spool is full")
            now = to_micros(self._clock())
            size = await self._file.append(self._writer, now, records, tried)
        except StoreUnavailable as error:
            self._fault = str(error)
            raise
        finally:
            self._appending -= 1
            self._appends += 1
            self._work.set()
        self._fault = None
        self._appended += len(records)
        waiting = self._totals
        oldest_at = waiting.oldest_at if waiting.records else now
        self._totals = Totals(waiting.records + len(records), waiting.bytes + size, oldest_at)
        return Commit([_settled(record) for record in records])

    def _keeps_pace(self, count: int) -> bool:
        """Return whether records may go to the spool while it is drained: half as many as leave it.

        Not where it is nearly empty: then they wait until it is, for otherwise it might never be.
        """
        few = self._totals.records <= _FEW_RECORDS
        return not few and self._appended + count <= self._drained // 2 + _SLACK_RECORDS

    async def _drain(self) -> None:
        """Commit all that waits. Raises what keeps it from that; what is not committed then stays."""
        if self._prepare is not None:
            await self._prepare()
            self._prepare = None
        await self._end_given_up()
        last_numbers: dict[str, int] = {}  # by writer: what was committed before this call
        before, after = -1, 0
        while before != self._appends or self._appending:
            before = self._appends
            async with aclosing(self._rows(after)) as portions:
                async for rows in portions:
                    if (writer := rows[0].writer) not in last_numbers:
                        last_numbers[writer] = await self._store.last_number(writer) or 0
                    await self._drain_rows(rows, last_numbers[writer])
                    after = rows[-1].number
        self._spooling = self._away = False
        self._fault = None
        self._work.clear()
        self._move()
        if self._drained:
            log.info("spool_drained", records=self._drained)
        self._drained = 0

    async def _rows(self, after: int) -> AsyncGenerator[Sequence[Row], None]:
        """Yield the rows behind `after`, in portions; the next ones are read while these are committed."""
        reading = asyncio.create_task(self._file.read(after, _CHUNK_RECORDS))
        try:
            while rows := await reading:
                reading = asyncio.create_task(self._file.read(rows[-1].number, _CHUNK_RECORDS))
                yield rows
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _end_given_up(self) -> None:
        """Wait for the end of the commit that was given up, and keep what it would have answered."""
        if self._given_up is None:
            return
        try:
            self._given_up_outcomes = (await self._given_up).outcomes
        except CommitUnanswered as lost:
            self._given_up_outcomes = lost.result[1]
        except Exception:  # it was said when it was given up
            self._given_up_outcomes = None
        self._given_up = None

    async def _drain_rows(self, rows: Sequence[Row], last_number: int) -> None:
        """Commit rows and take them out of the spool, less those up to `last_number`, which are there already."""
        there = [row for row in rows if row.number <= last_number]
        if there:
            number, outcomes = self._unanswered or (0, None)
            await self._leave(there, outcomes if number == there[-1].number else None)
        rest = rows[len(there) :]
        if not rest:
            return
        if (tried := rest[0].tried) is not None and await self._store.last_number(tried[0]) == tried[1]:
            await self._leave(rest, self._given_up_outcomes)
            return
        try:
            await self._leave(rest, await self._commit(rest))
        except Exception as error:  # what cannot be stored must not keep the others
            if is_away(error):
                raise
            for row in rest:
                await self._commit_singly(row)

    async def _commit(self, rows: Sequence[Row]) -> Sequence[Outcome]:
        """Commit rows together."""
        records = [record for row in rows for record in row.records]
        try:
            with self._watched():
                return (await self._store.commit_as(rows[0].writer, rows[-1].number, records)).outcomes
        except CommitUnanswered as lost:
            self._unanswered = rows[-1].number, lost.result[1]
            raise

    async def _commit_singly(self, row: Row) -> None:
        """Commit the records of a row one by one. What cannot be stored in any way is set aside."""
        outcomes: list[Outcome] = []
        try:
            for record in row.records:
                outcomes += (await self._spare.commit([record])).outcomes
        except StoreUnavailable:
            done = len(outcomes)
            if done:
                await self._file.cut(row.number, row.records[done:])
                self._counts.count_drained(row.records[:done], outcomes)
                self._totals = self._totals._replace(records=self._totals.records - done)
            raise
        refused = [record for record, outcome in zip(row.records, outcomes, strict=True) if outcome is Outcome.DEFERRED]
        if refused:
            log.error("spooled_records_set_aside", records=len(refused), consequence="they are tried at the next start")
            await self._file.set_aside(row.at, refused)
        await self._leave([row], outcomes)

    async def _leave(self, rows: Sequence[Row], outcomes: Sequence[Outcome] | None) -> None:
        """Take rows out of the spool that are in the store. Their outcomes are counted, where they are known."""
        await self._file.forget(rows[-1].number)
        records = [record for row in rows for record in row.records]
        if outcomes is not None:
            self._counts.count_drained(records, outcomes)
        left = self._totals.records - len(records)
        oldest_at = rows[-1].at if left else None
        self._totals = Totals(left, self._totals.bytes - sum(row.bytes for row in rows), oldest_at)
        if self._away:
            self._away = False
            self._appended = self._drained = 0
        self._drained += len(records)
        self._move()

    def _move(self) -> None:
        """Let those look again who wait for room beside the draining, or for its end."""
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()


def _settled(record: Record) -> Outcome:
    if isinstance(record, Event):
        return Outcome.SPOOLED
    return Outcome.REJECTED if isinstance(record, Reject) else Outcome.IGNORED
