"""What the statements of the books have in common: words that the databases spell differently, and days."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from sqlalchemy import BigInteger, Connection, TextClause, bindparam, func, select, text

from storage.tables import events

DAY = 86_400_000_000  # in microseconds; days are numbered since 1970, in UTC
LARGER = {"sqlite": "max", "postgresql": "greatest"}
SMALLER = {"sqlite": "min", "postgresql": "least"}
OF_VENDOR = "substr(name, 1, 6) = 'spark/'"  # the vendor's own events about a device
WITHIN = "events.position > :after AND events.position <= :end"


def statement_of(words: str) -> TextClause:
    """Return a statement about the events WITHIN, all of whose parameters are whole numbers of 64 bits."""
    statement = text(words)
    return statement.bindparams(*(bindparam(name, type_=BigInteger) for name in statement.compile().params))


def runs_of_days(connection: Connection, after: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield day, after and end of each run of events of one day, in order of commit."""
    day = events.c.received_at.op("/")(DAY)
    within = (events.c.position > after, events.c.position <= end)
    earliest, latest = connection.execute(select(func.min(day), func.max(day)).where(*within)).one()
    if earliest == latest:
        yield from [] if earliest is None else [(earliest, after, end)]
        return
    before = func.lag(day).over(order_by=events.c.position)
    numbered = select(events.c.position, day.label("day"), before.label("before")).where(*within).subquery()
    begins = select(numbered.c.position, numbered.c.day).where(numbered.c.before.is_distinct_from(numbered.c.day))
    rows = [(position, number) for position, number in connection.execute(begins.order_by(numbered.c.position))]
    for (position, number), (following, _) in pairwise([*rows, (end + 1, 0)]):
        yield number, position - 1, following - 1
