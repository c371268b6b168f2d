"""The record of when each stream of a source was listening, by the database's clock, and the gaps that follow from it.

A call is one transaction, so a process may die at any point. The calls for one source and mode take turns, in all
processes. What counts is the tail: no statement reads all history.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from itertools import count
from typing import NamedTuple

from sqlalchemy import Case, ColumnElement, Connection, case, exists, func, insert, select, true, update

from ingest.coverage import Gap, Opened
from ingest.errors import IntervalLost
from ingest.event import Cause, Origin
from ingest.times import elapsed
from storage.clock import database_now
from storage.engine import Database
from storage.gaps import SourceKey, add_gaps, begin_gap, close_gaps, known_gaps, retract_gaps
from storage.intervals import SEAM_MICROS, Stretch, after, subtract, uncovered
from storage.replicas import ALIVE_MICROS, is_alive
from storage.tables import coverage, replicas
from storage.transactions import transaction


class _Row(NamedTuple):
    """An interval as it was when this process last wrote it."""

    id: int
    key: SourceKey
    since: int
    until: int


class _Ours(NamedTuple):
    """The process that asks, and the intervals of the source and mode that it holds."""

    holder: str
    held: tuple[int, ...]


class SqlCoverage:
    """protocols.Coverage. Its intervals have numbers of its own: a database that was put back gives ids twice.

    `holder` names this process among those that `storage.replicas` knows; on SQLite there is no other.
    """

    def __init__(self, database: Database, holder: str = "") -> None:
        self._database = database
        self._holder = holder
        self._numbers = count(1)
        self._known: dict[int, _Row] = {}  # the intervals whose end is not written
        self._held: set[int] = set()  # those of them that were not asked to end
        self._turns: defaultdict[SourceKey, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def open(self, origin: Origin, stream: int, ago: float = 0.0) -> Opened:
        """See protocols.Coverage."""
        key, at = _source_key(origin), elapsed() - ago
        async with self._turns[key]:
            row, ended, found = await self._database.write(_open, origin, stream, at, self._ours(key))
            number = next(self._numbers)
            self._known[number] = row
            self._held.add(number)
        return Opened(number, ended, found)

    async def extend(self, interval: int, ago: float = 0.0) -> None:
        """See protocols.Coverage."""
        row = self._known[interval]
        until = await self._database.write(_extend, row, elapsed() - ago, interval in self._held)
        if until is None:
            raise self._lost(interval)
        self._known[interval] = row._replace(until=until)

    async def is_relieved(self, origin: Origin, stream: int) -> bool:
        """See protocols.Coverage."""
        return await self._database.read(_is_relieved, _source_key(origin), stream, self._holder)

    async def end(self, interval: int, cause: Cause, ago: float = 0.0) -> Sequence[Gap]:
        """See protocols.Coverage. Where it fails and is not tried again, the next `open` ends the interval."""
        at, row = elapsed() - ago, self._known.get(interval)
        if row is None:  # it has ended already
            return ()
        async with self._turns[row.key]:
            self._held.discard(interval)
            gaps = await self._database.write(_end, row, cause, at, self._ours(row.key))
            if gaps is None:
                raise self._lost(interval)
            del self._known[interval]
        return gaps

    def _ours(self, key: SourceKey) -> _Ours:
        return _Ours(
            self._holder, tuple(self._known[number].id for number in self._held if self._known[number].key == key)
        )

    def _lost(self, interval: int) -> IntervalLost:
        """Forget an interval that is not there."""
        row = self._known.pop(interval)
        self._held.discard(interval)
        return IntervalLost(f"{row.key.source} has no interval {row.id} any more that reaches as far as was written")


@transaction
def _open(
    connection: Connection, origin: Origin, stream: int, at: float, ours: _Ours
) -> tuple[_Row, Sequence[Gap], Sequence[Gap]]:
    """Begin an interval; what lasts of a gap ends. What nobody wrote down is a gap with cause DOWN."""
    key = _source_key(origin)
    _take_turn(connection, key)
    ago = _micros_since(at)  # asked before the database's clock, so that a busy processor never makes it earlier
    now = database_now(connection)
    since = now - ago
    last: int | None = connection.execute(select(func.max(coverage.c.until)).where(*_of(key))).scalar()
    start = min([since, *_bury(connection, key, ours, now), *([] if last is None else [last])]) - SEAM_MICROS
    row = _Row(_insert(connection, key, stream, since, ours.holder), key, since, since)
    ended = close_gaps(connection, key, since)
    intervals, _ = _intervals(connection, key, start, now)
    found = _unknown(connection, key, intervals, start)
    return row, ended, add_gaps(connection, key, found, ended[0].cause if ended else Cause.DOWN)


@transaction
def _extend(connection: Connection, row: _Row, at: float, held: bool) -> int | None:
    """Move an end and return it; None where the interval is lost.

    A `held` interval that another process took for one of the dead is alive again, and the gap was none.
    """
    moved = {"until": _at_least(database_now(connection) - _micros_since(at))}
    until = _move(connection, row, moved, ~coverage.c.ended if held else None)
    if until is None and held:
        _take_turn(connection, row.key)
        until = _move(connection, row, {**moved, "ended": False})
        if until is not None:
            retract_gaps(connection, row.key, Stretch(row.since, database_now(connection)))
    return until


@transaction
def _end(connection: Connection, row: _Row, cause: Cause, at: float, ours: _Ours) -> list[Gap] | None:
    """End an interval, and write down what is uncovered by that: up to now, and what only shows now.

    None where the interval is lost.
    """
    key = row.key
    _take_turn(connection, key)
    now = database_now(connection)
    until = _move(connection, row, {"until": _at_least(now - _micros_since(at)), "ended": True})
    if until is None:
        return None
    start = min([until, *_bury(connection, key, ours, now)]) - SEAM_MICROS
    intervals, listening = _intervals(connection, key, start, now)
    gaps = add_gaps(connection, key, _unknown(connection, key, intervals, start), cause)
    known = known_gaps(connection, key, start)
    if listening or known.open_since is not None:
        return gaps
    since = max(stretch.until for stretch in (*intervals, *known.closed))
    return [*gaps, begin_gap(connection, key, since, cause)]


def _move(
    connection: Connection, row: _Row, values: Mapping[str, object], where: ColumnElement[bool] | None = None
) -> int | None:
    """Change an interval and return its end; None where the database was put back to when it was not, or was shorter.

    Another one may have its id since.
    """
    same = (
        *(coverage.c.id == row.id, coverage.c.source == row.key.source, coverage.c.mode == row.key.mode),
        *(coverage.c.since == row.since, coverage.c.until >= row.until),
        true() if where is None else where,
    )
    moved = update(coverage).where(*same).values(values).returning(coverage.c.until)
    return connection.execute(moved).scalar_one_or_none()


def _take_turn(connection: Connection, key: SourceKey) -> None:
    """Wait until no other transaction works on the source and mode: two that end at once must see each other.

    A process that freezes in its turn is cut off, as in every transaction that writes.
    """
    if connection.dialect.name == "sqlite":  # BEGIN IMMEDIATE has locked it all
        return
    name = "\0".join(("coverage", *key)).encode()
    lock = int.from_bytes(blake2b(name, digest_size=8).digest(), signed=True)
    connection.execute(select(func.pg_advisory_xact_lock(lock)))


def _bury(connection: Connection, key: SourceKey, ours: _Ours, now: int) -> Sequence[int]:
    """End what processes that died left open where it last listened, and what this one does not know; return where.

    A process lives that has renewed its row within three seconds; one that knew no replicas, where its interval
    reaches so far. On SQLite there is no other.
    """
    dead = ~coverage.c.ended & coverage.c.id.not_in(ours.held)
    if connection.dialect.name != "sqlite":
        lives = exists().where(replicas.c.holder == coverage.c.holder, is_alive(now))
        extended = coverage.c.holder.is_(None) & (coverage.c.until > now - ALIVE_MICROS)
        dead &= (coverage.c.holder == ours.holder) | ~(lives | extended)
    buried = update(coverage).where(*_of(key), dead).values(ended=True).returning(coverage.c.until)
    return connection.execute(buried).scalars().all()


def _is_relieved(connection: Connection, key: SourceKey, stream: int, holder: str) -> bool:
    """Return whether a stream's interval of another process, and one of this, overlap by more than a seam."""
    ours, other = coverage.alias(), coverage.alias()
    of_both = [
        condition
        for row in (ours, other)
        for condition in (row.c.source == key.source, row.c.mode == key.mode, row.c.stream == stream, ~row.c.ended)
    ]
    overlap = [one.c.until >= another.c.since + SEAM_MICROS for one in (ours, other) for another in (ours, other)]
    living = exists().where(replicas.c.holder == other.c.holder, is_alive(database_now(connection)))
    found = select(other.c.id).where(*of_both, *overlap, ours.c.holder == holder, other.c.holder != holder, living)
    return connection.execute(found.limit(1)).first() is not None


def _insert(connection: Connection, key: SourceKey, stream: int, since: int, holder: str) -> int:
    row = {"source": key.source, "mode": key.mode, "stream": stream, "since": since, "until": since, "holder": holder}
    return int(connection.execute(insert(coverage).values(row).returning(coverage.c.id)).scalar_one())


def _intervals(connection: Connection, key: SourceKey, start: int, now: int) -> tuple[list[Stretch], bool]:
    """Return the intervals that reach beyond `start`, and whether one of them still listens: it covers until now."""
    tail = select(coverage.c.since, coverage.c.until).where(*_of(key))
    # Two questions, each with an index of its own: an OR would be answered by reading all that there ever was.
    ended = connection.execute(tail.where(coverage.c.ended, coverage.c.until >= start)).all()
    listening = connection.execute(tail.where(~coverage.c.ended)).all()
    stretches = [Stretch(*row) for row in ended]
    stretches += [Stretch(since, max(until, now)) for since, until in listening]
    return stretches, bool(listening)


def _unknown(connection: Connection, key: SourceKey, intervals: Sequence[Stretch], start: int) -> list[Stretch]:
    """Return what is uncovered behind `start` and stands in no gap row yet."""
    holes = after(uncovered(intervals), start)
    if not holes:
        return []
    known = known_gaps(connection, key, start)
    lasting = [] if known.open_since is None else [Stretch(known.open_since, holes[-1].until)]
    return subtract(holes, [*known.closed, *lasting])


def _at_least(instant: int) -> Case[int]:
    """Return the new end of an interval: it never moves back."""
    return case((coverage.c.until < instant, instant), else_=coverage.c.until)


def _of(key: SourceKey) -> tuple[ColumnElement[bool], ...]:
    return coverage.c.source == key.source, coverage.c.mode == key.mode


def _source_key(origin: Origin) -> SourceKey:
    return SourceKey(origin.source, origin.mode)


def _micros_since(at: float) -> int:
    """Return how many microseconds ago that was by `elapsed`, which all processes of this machine share.

    Asked inside the transaction: while it waited for its turn the stream may have been deaf. A beginning asks it before
    the database's clock and an end after it: whatever passes between the two makes an interval shorter, never longer.
    """
    return round((elapsed() - at) * 1_000_000)
