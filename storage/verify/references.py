"""What speaks of an event speaks of one that is there: copies that were seen, deliveries, devices' own numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, Table, select

from storage.partitions import attached, taken_out
from storage.tables import deliveries, events, messages, sightings
from storage.verify.finding import Finding, Looked, rows_at

TABLES: Sequence[Table] = (sightings, deliveries, messages)
_STEP = 4096  # positions, of which each is looked up


class Leaving(NamedTuple):
    """Stretches of positions whose events went with their partition, and of which not all is forgotten yet."""

    stretches: Sequence[tuple[int, int]]

    def has(self, position: int) -> bool:
        """Return whether what speaks of this position may still be there."""
        return any(first <= position < end for first, end in self.stretches)


def leaving(connection: Connection) -> Leaving:
    """Return what is being forgotten (storage/whole_partitions.py), by the names of the tables that were taken out."""
    if connection.dialect.name != "postgresql":
        return Leaving(())
    kept = attached(connection)[0]
    names = [name.removeprefix("events_p") for name in taken_out(connection) if name.startswith("events_p")]
    firsts = sorted(map(int, names))
    return Leaving(list(zip(firsts, [*firsts[1:], kept.end], strict=False)))


def look(connection: Connection, after: int, table: Table) -> Looked[int]:
    """Look the events up that the next rows of a table speak of, behind a position."""
    some = (
        select(table.c.position).distinct().where(table.c.position > after).order_by(table.c.position).limit(_STEP)
    ).subquery()
    event = select(events.c.position).where(events.c.position == some.c.position).scalar_subquery()
    found = connection.execute(select(some.c.position, event.is_not(None)).order_by(some.c.position)).all()
    lost = [position for position, is_there in found if not is_there]
    return Looked(len(found), list(_findings(connection, table, lost)), found[-1][0] if found else None)


def _findings(connection: Connection, table: Table, lost: Sequence[int]) -> Iterator[Finding]:
    going = leaving(connection) if lost else Leaving(())
    wrong = [position for position in lost if not going.has(position)]
    if wrong:
        yield Finding(
            check="references",
            first=wrong[0],
            last=wrong[-1],
            expected=0,
            found=len(wrong),
            difference=len(wrong),
            look_at=f"{rows_at(table.name, wrong)}: there is no such event",
        )
