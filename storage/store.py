"""The group commit: events once, duplicates sighted, rejects kept, all tallied, in one transaction.

Positions are given under the head row's lock and only to new rows, so they are dense and in order of commit.
"""

from __future__ import annotations

import asyncio
import json
import math
import secrets
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial

import msgspec
import structlog
from sqlalchemy import Connection, select

from ingest.errors import StoreFault, StoreUnavailable
from ingest.event import Commit, Event, Ignored, Outcome, Reason, Record, Reject
from storage import bulk, hook_echoes, partitions, resends
from storage.database import CommitUnanswered, NoPartition
from storage.engine import Database
from storage.rewinds import Rewinds
from storage.rows import EVENT_COLUMNS, REJECT_COLUMNS, event_row, reject_row, to_micros
from storage.sorting import message_key, sort_out, tally
from storage.tables import batches, rejects, sightings, tallies
from storage.transactions import transaction

_SIGHTING_COLUMNS = ("position", "source", "mode", "received_at")
TALLY_COLUMNS = ("source", "mode", "minute", "outcome", "count")
_WRITER_COLUMNS = ("writer", "batch", "committed_at")
_REPLACE_BATCH = "ON CONFLICT (writer) DO UPDATE SET batch = excluded.batch, committed_at = excluded.committed_at"
ADD_UP = "ON CONFLICT (source, mode, minute, outcome) DO UPDATE SET count = tallies.count + excluded.count"
_COMPLAINT_SECONDS = 60.0
_BATCHES_OF_A_NAME = 1000
_LOOKUPS = 3
_LOOKUP_PAUSE_SECONDS = 0.5  # a server that starts again refuses connections at once

log = structlog.get_logger(__name__)


class SqlStore:
    """protocols.Store on SQLite or PostgreSQL."""

    def __init__(self, database: Database, clock: Callable[[], datetime], rewinds: Rewinds | None = None) -> None:
        self._database = database
        self._rewinds = rewinds or Rewinds()
        self._clock = clock
        self._writer = secrets.token_hex(8)
        self._batch = 0
        self._complaints = _Complaints()

    def next_number(self) -> int:
        """Return the number of a new batch: where the answer to its COMMIT is lost, it is looked up by this."""
        self._batch += 1
        return self._batch

    def writer_of(self, number: int) -> str:
        """Return the name under which a batch is noted: new with each start, and now and then (storage.tables)."""
        return f"{self._writer}-{number // _BATCHES_OF_A_NAME}"

    async def commit(self, records: Sequence[Record], number: int | None = None) -> Commit:
        """See protocols.Store. `number`: of this batch, where somebody may ask for it later."""
        try:
            number = number or self.next_number()
            return await self._commit_once(records, self.writer_of(number), number)
        except Exception as error:  # whatever it is, it must not be the end of all that is committed together
            if is_away(error):
                raise
            return await self._halve(records, error)

    async def commit_as(self, writer: str, number: int, records: Sequence[Record]) -> Commit:
        """Commit all of the records or none, as the batch of that name; for what may have been tried before.

        Raises as Database.write does.
        """
        return await self._commit_once(records, writer, number)

    async def last_number(self, writer: str) -> int | None:
        """Return the last batch that was committed under a name; waits for a COMMIT that is still under way."""
        return await self._database.write(_last_batch_of, writer)

    async def _commit_once(self, records: Sequence[Record], writer: str, number: int) -> Commit:
        now, mark = to_micros(self._clock()), self._rewinds.mark()
        try:
            position, outcomes = await self._write(records, now, writer, number)
        except CommitUnanswered as lost:
            if not await self._was_committed(writer, number):
                raise
            position, outcomes = lost.result
        self._rewinds.compare(mark, position)
        self._rewinds.reached(position + outcomes.count(Outcome.STORED))
        return Commit(outcomes, partial(_placed, records, outcomes, position))

    async def _write(self, records: Sequence[Record], now: int, writer: str, number: int) -> tuple[int, list[Outcome]]:
        """Write a batch; where PostgreSQL has no partition for it because nobody made one, make one and write again."""
        try:
            return await self._database.write(_write_batch, records, now, writer, number)
        except NoPartition:
            await self._database.write(partitions.make_ahead, now)
            return await self._database.write(_write_batch, records, now, writer, number)

    async def _was_committed(self, writer: str, number: int) -> bool:
        """Return whether the batch whose COMMIT went unanswered is there; wait for the head lock it may still hold.

        False also where a later batch is there instead, or none can be looked up.
        """
        for _ in range(_LOOKUPS):
            try:
                return await self.last_number(writer) == number
            except StoreUnavailable:
                await asyncio.sleep(_LOOKUP_PAUSE_SECONDS)
        return False  # it is deferred: if it was committed after all, the retry will be a duplicate

    async def _halve(self, records: Sequence[Record], error: Exception) -> Commit:
        """Find the record that the database refuses by halves, and keep it as a Reject."""
        if len(records) == 1:
            return await self._set_apart(records[0], error)
        middle = len(records) // 2
        first = await self.commit(records[:middle])
        try:
            second = await self.commit(records[middle:])
        except StoreUnavailable:  # the first half is durable, and has to be counted so
            second = Commit([Outcome.DEFERRED] * (len(records) - middle))
        return Commit([*first.outcomes, *second.outcomes], lambda: [*first.events(), *second.events()])

    async def _set_apart(self, record: Record, error: Exception) -> Commit:
        """Keep a record that cannot be stored as a Reject; where not even that can be, it is DEFERRED."""
        try:
            number = self.next_number()
            commit = await self._commit_once([_refused(record)], self.writer_of(number), number)
        except Exception as fault:  # one record must not be the end of all the others
            if is_away(fault):
                raise
            if self._complaints.is_due():
                log.exception("record_cannot_be_stored", source=record.source, at_first=type(error).__name__)
            return Commit([Outcome.DEFERRED])
        log.warning("record_refused_by_store", error=str(error) or type(error).__name__)
        return commit


class _Complaints:
    """Says at most once a minute that a record cannot be stored: its sender sends it again and again."""

    def __init__(self) -> None:
        self._last = -math.inf

    def is_due(self) -> bool:
        """Return whether a minute has passed; it begins anew then."""
        now = time.monotonic()
        due = now >= self._last + _COMPLAINT_SECONDS
        if due:
            self._last = now
        return due


def is_away(error: Exception) -> bool:
    """Return whether the store is away, so that trying again later may help."""
    return isinstance(error, StoreUnavailable) and not isinstance(error, StoreFault)


@transaction
def _write_batch(
    connection: Connection, records: Sequence[Record], now: int, writer: str, number: int
) -> tuple[int, list[Outcome]]:
    """Write a batch; return the last position before it, and what became of each record. `now` in microseconds."""
    position = _lock_head(connection)
    events = [record for record in records if isinstance(record, Event)]
    known = {row[0]: row[1:] for row in (bulk.known_ids(connection, [event.id for event in events]) if events else ())}
    sent = [message_key(event) for event in events if event.message is not None]
    rows = sort_out(records, known, resends.known_messages(connection, sent) if sent else {}, position)
    sqlite = connection.dialect.name == "sqlite"
    hook_echoes.add(connection, rows.echoes)
    inserts = [
        *bulk.event_inserts(connection, EVENT_COLUMNS, [event_row(event, sqlite=sqlite) for event in rows.stored]),
        resends.insert(rows.messages),
        bulk.Insert(sightings, _SIGHTING_COLUMNS, rows.sightings),
        bulk.Insert(rejects, REJECT_COLUMNS, [reject_row(reject) for reject in rows.rejects]),
        bulk.Insert(tallies, TALLY_COLUMNS, tally(records, rows.outcomes, now), ADD_UP),
    ]
    if not sqlite:  # there no answer to a COMMIT can be lost on the way
        inserts.append(bulk.Insert(batches, _WRITER_COLUMNS, [(writer, number, now)], _REPLACE_BATCH))
    bulk.insert_all(connection, inserts, _moved_head(position, len(rows.stored)) if rows.stored else None)
    return position, rows.outcomes


def _placed(records: Sequence[Record], outcomes: Sequence[Outcome], position: int) -> list[Event]:
    """Return the stored events, with the positions after `position`, as they will be read."""
    place = msgspec.structs.replace
    pairs = zip(records, outcomes, strict=True)
    stored = (record for record, outcome in pairs if outcome is Outcome.STORED and isinstance(record, Event))
    return [place(event, position=at, message=None) for at, event in enumerate(stored, position + 1)]


def _lock_head(connection: Connection) -> int:
    """Lock the head; return the last position."""
    if connection.dialect.name == "sqlite":  # BEGIN IMMEDIATE has locked it all
        return int(bulk.run(connection, "SELECT position FROM head")[0][0])
    return int(bulk.run(connection, "SELECT position FROM head ORDER BY position DESC LIMIT 1 FOR UPDATE")[0][0])


def _moved_head(before: int, by: int) -> bulk.Statement:
    """Return what moves the head, which is locked."""
    return bulk.Statement("UPDATE head SET position = {} WHERE position = {}", (before + by, before))


@transaction
def touch_head(connection: Connection) -> None:
    """Do what every commit does, and change nothing in the end: for who asks whether the store takes commits.

    There and back: SQLite writes nothing where a value is the one that is there already.
    """
    position = _lock_head(connection)
    bulk.insert_all(connection, (), _moved_head(position, 1))
    bulk.insert_all(connection, (), _moved_head(position + 1, -1))


@transaction
def _last_batch_of(connection: Connection, writer: str) -> int | None:
    _lock_head(connection)
    return connection.execute(select(batches.c.batch).where(batches.c.writer == writer)).scalar_one_or_none()


def _refused(record: Record) -> Reject:
    """Return the Reject that stands for a record whose data the database calls an error.

    With all that is known of it.
    """
    if isinstance(record, Reject | Ignored):
        raise StoreFault("the database refuses a record that holds no sender's data")
    return Reject(
        source=record.source,
        mode=record.mode,
        received_at=record.received_at,
        reason=Reason.REFUSED_BY_STORE,
        body=json.dumps(
            {"event": record.name, "coreid": record.device, "data": (record.data or b"").decode("latin-1")}
        ).encode(),
        attributes=record.attributes,
    )
