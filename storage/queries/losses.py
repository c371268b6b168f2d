"""Losses: numbers of devices that did not come in their turn, and what became of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from msgspec import Struct
from sqlalchemy import ColumnElement, Connection, func, select

from ingest.times import Time
from storage.queries.page import Page, PageSpan, ordered
from storage.queries.times import as_time
from storage.rows import to_micros
from storage.tables import losses

_LARGEST = (1 << 63) - 1


class LossRow(Struct, frozen=True, kw_only=True):
    """One number of a device that did not come in its turn: it is missing, lost (the grace is over) or recovered.

    `source` is the one whose event revealed it, at `noticed_at`.
    """

    id: int
    source: str
    product: str
    device: str
    sequence: int
    state: str
    noticed_at: Time


EXAMPLE = LossRow(
    id=17,
    source="fleet",
    product="tracker",
    device="e00fce682e79a004f1e69a2b",
    sequence=1041,
    state="lost",
    noticed_at="2026-07-28T16:53:05.702Z",
)


class LossFilter(NamedTuple):
    """Which losses; None is all. `since` and `until` are about when they were noticed."""

    source: str | None = None
    product: str | None = None
    device: str | None = None
    state: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """Return what the rows have to fulfil."""
        columns = (losses.c.source, losses.c.product, losses.c.device, losses.c.state)
        found = [column == value for column, value in zip(columns, self, strict=False) if value is not None]
        if self.since is not None:
            found.append(losses.c.noticed_at >= to_micros(self.since))
        if self.until is not None:
            found.append(losses.c.noticed_at < to_micros(self.until))
        return found


def losses_page(connection: Connection, wanted: LossFilter, span: PageSpan) -> Page[LossRow]:
    """Return the losses of a span. A row of the table is a range of numbers, with an id for each."""
    rows = _ranges(connection, wanted, span)
    found: list[LossRow] = []
    for loss in _expanded(rows, span):
        if len(found) == span.limit:
            return Page(found, found[-1].id, found[-1].id)
        found.append(loss)
    end = found[-1].id if found else (span.before or 0) if span.descending else span.after
    return Page(found, None, end)


def _ranges(connection: Connection, wanted: LossFilter, span: PageSpan) -> Sequence[Any]:
    """Return the ranges that a page may need: the one in which it begins, and one for each number at most."""
    begins_in = select(func.max(losses.c.id)).where(losses.c.id <= min(span.after + 1, _LARGEST)).scalar_subquery()
    query = select(losses).where(losses.c.id >= func.coalesce(begins_in, 0), *wanted.conditions())
    if span.before is not None:
        query = query.where(losses.c.id < span.before)
    return connection.execute(ordered(query, losses.c.id, span).limit(span.limit + 2)).all()


def _expanded(rows: Sequence[Any], span: PageSpan) -> Iterator[LossRow]:
    for row in rows:
        first = max(row.id, span.after + 1)
        end = row.id + row.last - row.first + 1
        ids = range(first, end if span.before is None else min(end, span.before))
        for id_ in reversed(ids) if span.descending else ids:
            yield LossRow(
                id=id_,
                source=row.source,
                product=row.product,
                device=row.device,
                sequence=row.first + id_ - row.id,
                state=row.state,
                noticed_at=as_time(row.noticed_at),
            )
