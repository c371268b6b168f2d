"""The record of when each stream of a source was listening, by the database's clock, and the gaps that follow from it.

A call is one transaction, so a process may die at any point. The calls for one source and mode take turns, in all
processes. What counts is the tail: no statement reads all history.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from hashlib import blake2b
from itertools import count
from typing import NamedTuple

from sqlalchemy import Case, Connection, case, func, insert, select, update

from ingest.coverage import Gap, Opened
from ingest.errors import IntervalLost
from ingest.event import Cause, Origin
from ingest.times import elapsed
from storage.clock import database_now
from storage.engine import Database
from storage.gaps import SourceKey, add_gaps, begin_gap, close_gaps, known_gaps
from storage.intervals import SEAM_MICROS, Stretch, after, subtract, uncovered
from storage.tables import coverage
from storage.transactions import transaction


class _Row(NamedTuple):
    """An interval as it was when this process last wrote it."""

    id: int
    key: SourceKey
    since: int
    until: int


class SqlCoverage:
    """protocols.Coverage. Its intervals have numbers of its own: a database that was put back gives ids twice."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._numbers = count(1)
        self._known: dict[int, _Row] = {}  # the intervals whose end is not written
        self._held: set[int] = set()  # those of them that were not asked to end
        # Where it is certain that no other interval was left open, by a process that died or an answer that was lost.
        self._certain: set[SourceKey] = set()
        self._turns: defaultdict[SourceKey, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def open(self, origin: Origin, stream: int, ago: float = 0.0) -> Opened:
        """See protocols.Coverage."""
        key = _source_key(origin)
        async with self._turns[key]:
            held = tuple(self._known[number].id for number in self._held if self._known[number].key == key)
            certain = key in self._certain
            self._certain.discard(key)
            row, ended, found = await self._database.write(
                _open, origin, stream, elapsed() - ago, None if certain else held
            )
            self._certain.add(key)
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

    async def end(self, interval: int, cause: Cause, ago: float = 0.0) -> Sequence[Gap]:
        """See protocols.Coverage. Where it fails and is not tried again, the next `open` ends the interval."""
        row = self._known.get(interval)
        if row is None:  # it has ended already
            return ()
        self._held.discard(interval)
        async with self._turns[row.key]:
            certain = self._certain & {row.key}
            self._certain -= certain
            gaps = await self._database.write(_end, row, cause, elapsed() - ago)
            if gaps is None:
                raise self._lost(interval)
            self._certain |= certain
            del self._known[interval]
        return gaps

    def _lost(self, interval: int) -> IntervalLost:
        """Forget an interval that is not there; others may have been left open in the copy that was put back."""
        row = self._known.pop(interval)
        self._held.discard(interval)
        self._certain.discard(row.key)
        return IntervalLost(f"{row.key.source} has no interval {row.id} any more that reaches as far as was written")


@transaction
def _open(
    connection: Connection, origin: Origin, stream: int, at: float, held: tuple[int, ...] | None
) -> tuple[_Row, Sequence[Gap], Sequence[Gap]]:
    """Begin an interval. Unless `held` is None, intervals that are neither ended nor held are taken over from the dead.

    What lasts of a gap ends; what nobody wrote down is a gap with cause DOWN.
    """
    key = _source_key(origin)
    _take_turn(connection, key)
    now = database_now(connection)
    since = now - _micros_since(at)
    start = (since if held is None else _take_over(connection, key, held, since)) - SEAM_MICROS
    row = _Row(_insert(connection, key, stream, since), key, since, since)
    ended = close_gaps(connection, key, since)
    intervals, _ = _intervals(connection, key, start, now)
    found = _unknown(connection, key, intervals, start)
    return row, ended, add_gaps(connection, key, found, ended[0].cause if ended else Cause.DOWN)


@transaction
def _extend(connection: Connection, row: _Row, at: float, held: bool) -> int | None:
    """Move an end and return it; None where the interval is lost.

    A `held` interval that another process took for one of the dead is alive again.
    """
    moved: dict[str, object] = {"until": _at_least(database_now(connection) - _micros_since(at))}
    if held:
        moved["ended"] = False
    return _move(connection, row, moved)


@transaction
def _end(connection: Connection, row: _Row, cause: Cause, at: float) -> list[Gap] | None:
    """End an interval, and write down what is uncovered by that: up to now, and what only shows now.

    None where the interval is lost.
    """
    key = row.key
    _take_turn(connection, key)
    now = database_now(connection)
    until = _move(connection, row, {"until": _at_least(now - _micros_since(at)), "ended": True})
    if until is None:
        return None
    start = until - SEAM_MICROS
    intervals, listening = _intervals(connection, key, start, now)
    gaps = add_gaps(connection, key, _unknown(connection, key, intervals, start), cause)
    known = known_gaps(connection, key, start)
    if listening or known.open_since is not None:
        return gaps
    since = max(stretch.until for stretch in (*intervals, *known.closed))
    return [*gaps, begin_gap(connection, key, since, cause)]


def _move(connection: Connection, row: _Row, values: dict[str, object]) -> int | None:
    """Change an interval and return its end; None where the database was put back to when it was not, or was shorter.

    Another one may have its id since.
    """
    same = (
        *(coverage.c.id == row.id, coverage.c.source == row.key.source, coverage.c.mode == row.key.mode),
        *(coverage.c.since == row.since, coverage.c.until >= row.until),
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


def _take_over(connection: Connection, key: SourceKey, held: tuple[int, ...], since: int) -> int:
    """End what is neither ended nor held where it last listened; return since when something may be missing."""
    ours = coverage.c.source == key.source, coverage.c.mode == key.mode
    left = update(coverage).where(*ours, ~coverage.c.ended, coverage.c.id.not_in(held)).values(ended=True)
    instants: list[int] = [since, *connection.execute(left.returning(coverage.c.until)).scalars()]
    last: int | None = connection.execute(select(func.max(coverage.c.until)).where(*ours)).scalar()
    return min(instants if last is None else [*instants, last])


def _insert(connection: Connection, key: SourceKey, stream: int, since: int) -> int:
    row = {"source": key.source, "mode": key.mode, "stream": stream, "since": since, "until": since}
    return int(connection.execute(insert(coverage).values(row).returning(coverage.c.id)).scalar_one())


def _intervals(connection: Connection, key: SourceKey, start: int, now: int) -> tuple[list[Stretch], bool]:
    """Return the intervals that reach beyond `start`, and whether one of them still listens: it covers until now."""
    tail = select(coverage.c.since, coverage.c.until).where(
        coverage.c.source == key.source, coverage.c.mode == key.mode
    )
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


def _source_key(origin: Origin) -> SourceKey:
    return SourceKey(origin.source, origin.mode)


def _micros_since(at: float) -> int:
    """Return how many microseconds ago that was by `elapsed`, which all processes of this machine share.

    Asked inside the transaction: while it waited for its turn the stream may have been deaf.
    """
    return round((elapsed() - at) * 1_000_000)
