"""What the store holds, shown: events, gaps, rejects, sources and handlers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from app.cli import shapes
from app.cli.output import hint, show_json, show_table
from app.cli.store import ask
from app.event_json import event_json
from app.row_json import gap_json, reject_json
from app.settings import Settings
from ingest.event import Event, Mode
from storage import queries
from storage.engine import Database
from storage.queries import EventFilter, GapRow, Page, RejectRow, SourceTotals, Span

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Stretch:
    """At most `limit` rows behind `after`; the newest ones where that is None."""

    after: int | None
    limit: int

    @property
    def span(self) -> Span:
        """What the store is asked for."""
        return Span(self.limit, descending=True) if self.after is None else Span(self.limit, after=self.after)

    def extract(self, page: Page[T], key: Callable[[T], int]) -> Extract[T]:
        """The page of `span`, in ascending order."""
        if self.after is not None:
            return Extract(page.rows, page.next, page.last)
        rows = page.rows[::-1]
        return Extract(rows, None, key(rows[-1]) if rows else 0, older=page.next is not None)


@dataclass(frozen=True, slots=True)
class Extract(Generic[T]):
    """Rows with the newest last. `next` is where to go on now, None at the end; `last` is where to go on later."""

    rows: Sequence[T]
    next: int | None
    last: int
    older: bool = False

    def document(self, name: str, to_json: Callable[[T], object]) -> dict[str, Any]:
        """The JSON document, in the shape of the API."""
        return {name: [to_json(row) for row in self.rows], "next": self.next, "last": self.last}

    def hint(self) -> None:
        """Tell people that there is more than they see."""
        if self.next is not None:
            hint(f"There are newer ones: go on with --after {self.next}")
        if self.older:
            hint("There are older ones: raise --limit, or begin with --after 0")


def show_events(settings: Settings, wanted: EventFilter, stretch: Stretch, *, as_json: bool) -> None:
    """Print the events of a stretch that pass the filter."""

    async def question(database: Database) -> Page[Event]:
        return await database.read(queries.events_page, wanted, stretch.span)

    found = stretch.extract(asyncio.run(ask(settings, question)), lambda event: event.position or 0)
    if as_json:
        show_json(found.document("events", event_json))
        return
    show_table(shapes.EVENT_HEADINGS, map(shapes.event_cells, found.rows), empty="There are no such events.")
    found.hint()


def show_gaps(settings: Settings, source: str | None, stretch: Stretch, *, as_json: bool) -> None:
    """Print the gaps of a stretch, optionally of one source."""

    async def question(database: Database) -> Page[GapRow]:
        return await database.read(queries.gaps_page, stretch.span, source=source)

    found = stretch.extract(asyncio.run(ask(settings, question)), lambda row: row.id)
    if as_json:
        show_json(found.document("gaps", gap_json))
        return
    show_table(shapes.GAP_HEADINGS, map(shapes.gap_cells, found.rows), empty="There are no gaps.")
    found.hint()


def show_rejects(settings: Settings, source: str | None, stretch: Stretch, *, as_json: bool) -> None:
    """Print the rejects of a stretch, optionally of one source."""

    async def question(database: Database) -> Page[RejectRow]:
        return await database.read(queries.rejects_page, stretch.span, source=source)

    found = stretch.extract(asyncio.run(ask(settings, question)), lambda row: row.id)
    if as_json:
        show_json(found.document("rejects", reject_json))
        return
    show_table(shapes.REJECT_HEADINGS, map(shapes.reject_cells, found.rows), empty="There are no rejects.")
    found.hint()


def show_sources(settings: Settings, *, as_json: bool) -> None:
    """Print what each source brought: the configured ones, and those that only the store knows."""

    async def question(database: Database) -> tuple[list[SourceTotals], list[GapRow]]:
        return await database.read(queries.source_totals), await database.read(queries.open_gaps)

    rows = _every_source(settings, *asyncio.run(ask(settings, question)))
    if as_json:
        show_json({"sources": rows})
    else:
        show_table(shapes.SOURCE_HEADINGS, map(shapes.source_cells, rows), empty="There are no sources.")


def show_handlers(settings: Settings, *, as_json: bool) -> None:
    """Print where each handler stands that ever ran."""
    found = asyncio.run(ask(settings, lambda database: database.read(queries.handler_rows)))
    rows = [shapes.configured_handler_json(row, settings) for row in found]
    if as_json:
        show_json({"handlers": rows})
        return
    show_table(shapes.HANDLER_HEADINGS, map(shapes.handler_cells, rows), empty="No handler ran on this store yet.")


def _every_source(settings: Settings, totals: Sequence[SourceTotals], gaps: Sequence[GapRow]) -> list[dict[str, Any]]:
    known = {(row.source, row.mode): row for row in totals}
    lasting = {(row.source, row.mode): row for row in gaps}
    configured: list[tuple[str, Mode]] = [
        (label, mode) for label, source in settings.sources.items() for mode in source.modes
    ]
    return [
        shapes.source_json(source, mode, known.get((source, mode)), lasting.get((source, mode)), settings)
        for source, mode in dict.fromkeys([*configured, *sorted(known)])
    ]
