"""Rows = tallied stored + reprocessed - expired, for each source and mode; positions are dense up to the head.

Rows are those in the books and those that are not posted yet, so that this takes as long as there are blocks. That the
books are right themselves is another check's (`blocks.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, func, select

from storage.books import BOOKS
from storage.gaps import SourceKey
from storage.head import head_position
from storage.tables import blocks, cursors, events, tallies
from storage.verify.finding import Finding, named, quoted

_STORED = ("stored", "reprocessed")
_STEP = 1 << 16  # positions
_MOST_HOLES = 100  # stretches that are remembered


class Tail(NamedTuple):
    """What is not posted yet: rows by source and mode, and stretches of positions that are not all there."""

    rows: Mapping[SourceKey, int]
    holes: Sequence[tuple[int, int]]


class Totals(NamedTuple):
    """How many events each source and mode has, by what was counted and by what is there.

    `given` positions were tallied as stored; the last one is `head`. Up to `place` all is in the books.
    """

    head: int
    place: int
    given: int
    tallied: Mapping[SourceKey, int]
    posted: Mapping[SourceKey, int]
    tail: Tail

    @property
    def sources(self) -> list[SourceKey]:
        """Return each source and mode that has any."""
        return sorted({*self.tallied, *self.posted, *self.tail.rows})

    def rows(self, key: SourceKey) -> int:
        """Return how many events are there."""
        return self.posted.get(key, 0) + self.tail.rows.get(key, 0)


def unposted(connection: Connection) -> int:
    """Return how many positions are behind the books."""
    return head_position(connection) - place_of(connection)


def place_of(connection: Connection) -> int:
    """Return up to where all is posted."""
    place: int | None = connection.execute(select(cursors.c.position).where(cursors.c.handler == BOOKS)).scalar()
    return place or 0


def totals(connection: Connection) -> Totals:
    """Count everything."""
    head, place = head_position(connection), place_of(connection)
    given, tallied = _tallied(connection)
    posted = select(blocks.c.source, blocks.c.mode, func.sum(blocks.c.events)).group_by(blocks.c.source, blocks.c.mode)
    in_books = {SourceKey(source, mode): int(count) for source, mode, count in connection.execute(posted)}
    return Totals(head, place, given, tallied, in_books, _tail(connection, place, head))


def _tallied(connection: Connection) -> tuple[int, Mapping[SourceKey, int]]:
    given, counts = 0, Counter[SourceKey]()
    query = (
        select(tallies.c.source, tallies.c.mode, tallies.c.outcome, func.sum(tallies.c.count))
        .where(tallies.c.outcome.in_((*_STORED, "expired")))
        .group_by(tallies.c.source, tallies.c.mode, tallies.c.outcome)
    )
    for source, mode, outcome, count in connection.execute(query):
        stored = outcome in _STORED
        given += int(count) * stored
        counts[SourceKey(source, mode)] += int(count) if stored else -int(count)
    return given, counts


def _tail(connection: Connection, place: int, head: int) -> Tail:
    rows, holes = Counter[SourceKey](), list[tuple[int, int]]()
    after = place
    while after < head:
        start = connection.execute(select(func.min(events.c.position)).where(events.c.position > after)).scalar()
        if start is None or start > head:
            holes.append((after + 1, head))
            break
        last = min(start + _STEP - 1, head)
        within = (events.c.position >= start, events.c.position <= last)
        counts = select(events.c.source, events.c.mode, func.count()).where(*within)
        found = connection.execute(counts.group_by(events.c.source, events.c.mode)).all()
        rows.update({SourceKey(source, mode): count for source, mode, count in found})
        if start > after + 1 or sum(count for _, _, count in found) < last - start + 1:
            holes.append((after + 1, last))
        after = last
    return Tail(rows, holes[:_MOST_HOLES])


def rows(counted: Totals) -> Iterator[Finding]:
    """Yield each source and mode of which more or fewer events are there than were counted."""
    for key in counted.sources:
        expected, found = counted.tallied.get(key, 0), counted.rows(key)
        if expected != found:
            whose = f"source = {quoted(key.source)} AND mode = {quoted(key.mode)}"
            yield Finding(
                check="rows",
                source=key.source,
                mode=key.mode,
                expected=expected,
                found=found,
                difference=found - expected,
                look_at=f"tallies WHERE {whose}; blocks WHERE {whose}; events WHERE {whose} AND position > "
                f"{counted.place}",
            )


def positions(connection: Connection, counted: Totals) -> Iterator[Finding]:
    """Yield where positions are not dense: the head is elsewhere, events lie beyond it, or one is not there."""
    head = counted.head
    if head != counted.given:
        yield Finding(
            check="positions",
            expected=counted.given,
            found=head,
            difference=head - counted.given,
            look_at="head, and the tallies of what was stored: each has one position",
        )
    for where, outside in ((f"> {head}", events.c.position > head), ("< 1", events.c.position < 1)):
        # By the index: how many there are is only asked where there are any, for that may read a whole partition.
        if connection.execute(select(events.c.position).where(outside).order_by(events.c.position).limit(1)).first():
            ends = select(func.count(), func.min(events.c.position), func.max(events.c.position)).where(outside)
            count, first, last = connection.execute(ends).one()
            rows = f"events WHERE position {where}"
            yield Finding(
                check="positions", first=first, last=last, expected=0, found=count, difference=count, look_at=rows
            )
    yield from _missing_behind(connection, counted)


def _missing_behind(connection: Connection, counted: Totals) -> Iterator[Finding]:
    """Yield what is missing behind the books, less what expired before it was posted."""
    expected = sum(counted.tallied.values()) - sum(counted.posted.values())
    found = sum(counted.tail.rows.values())
    if found < expected and counted.tail.holes:
        first, last = counted.tail.holes[0]
        yield Finding(
            check="positions",
            first=counted.tail.holes[0][0],
            last=counted.tail.holes[-1][1],
            expected=expected,
            found=found,
            difference=found - expected,
            look_at=f"not there: {named(missing(connection, first, last))}",
        )


def missing(connection: Connection, first: int, last: int) -> list[int]:
    """Return positions that are not there, of the first ones from one up to another."""
    last = min(last, first + _STEP)
    there = select(events.c.position).where(events.c.position >= first, events.c.position <= last)
    return sorted(set(range(first, last + 1)).difference(connection.execute(there).scalars()))
