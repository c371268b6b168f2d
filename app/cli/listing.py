"""Pages of the store, printed: the newest rows, or those behind a number, as a table or in the shape of the API."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from app.cli.output import Column, hint, show_json, show_rows
from app.cli.store import ask
from app.settings import Settings
from storage.queries.page import Page, PageSpan

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Asked:
    """At most `limit` rows behind `after`; the newest ones where that is None."""

    after: int | None
    limit: int

    @property
    def span(self) -> PageSpan:
        """Return what the store is asked for."""
        return PageSpan(self.limit, descending=True) if self.after is None else PageSpan(self.limit, after=self.after)

    def listed(self, page: Page[T]) -> Listed[T]:
        """Return the page of `span`, in ascending order."""
        if self.after is not None:
            return Listed(page.rows, page.next, page.last)
        rows = page.rows[::-1]
        return Listed(rows, None, page.key_of(rows[-1]) if rows else 0, older=page.next is not None)


@dataclass(frozen=True, slots=True)
class Listed(Generic[T]):
    """Rows with the newest last. `next` is where to go on now, None at the end; `last` is where to go on later."""

    rows: Sequence[T]
    next: int | None
    last: int
    older: bool = False

    def document(self, name: str) -> dict[str, Any]:
        """Return the JSON document, in the shape of the API."""
        return {name: self.rows, "next": self.next, "last": self.last}

    def hint(self) -> None:
        """Tell people that there is more than they see."""
        if self.next is not None:
            hint(f"There are newer ones: go on with --after {self.next}")
        if self.older:
            hint("There are older ones: raise --limit, or begin with --after 0")


def show_page(
    settings: Settings,
    name: str,
    asked: Asked,
    query: Callable[..., Page[T]],
    columns: Sequence[Column],
    *,
    empty: str,
    as_json: bool,
) -> None:
    """Print a page of `query(connection, span)`: as JSON under `name`, or as a table; `empty` where it has no rows.

    Raises Fault where the store cannot be read.
    """
    found = asked.listed(read(settings, query, asked.span))
    if as_json:
        show_json(found.document(name))
        return
    show_rows(columns, found.rows, empty=empty)
    found.hint()


def show_all(name: str, rows: Sequence[object], columns: Sequence[Column], *, empty: str, as_json: bool) -> None:
    """Print all rows there are: as JSON under `name`, or as a table."""
    if as_json:
        show_json({name: rows})
    else:
        show_rows(columns, rows, empty=empty)


def read(settings: Settings, query: Callable[..., T], *arguments: object) -> T:
    """Return what a query of storage.queries answers. Raises Fault where the store cannot be read."""
    return asyncio.run(ask(settings, lambda database: database.read(query, *arguments)))
