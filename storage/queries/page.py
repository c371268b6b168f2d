"""Pages over a table by its ascending key: bounded in rows and in bytes, and always saying where to go on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar, TypeVarTuple

from sqlalchemy import ColumnElement, Connection, Integer, LargeBinary, Select, cast, func, select, true

T = TypeVar("T")
Columns = TypeVarTuple("Columns")

# A thousand rows of a mebibyte each must not be one answer: such a page is shorter, and `next` goes on.
MAX_PAGE_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class PageSpan:
    """At most `limit` rows whose key lies strictly between `after` and `before`, from the end `descending` names."""

    limit: int = 100
    after: int = 0
    before: int | None = None
    descending: bool = False


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Rows in the order asked for. `next` is None when there is no more now; `last` is always where to go on from.

    `key` is the name of the member by which pages go on.
    """

    rows: Sequence[T]
    next: int | None
    last: int
    key: str = "id"

    def key_of(self, row: T) -> int:
        """Return where to go on from behind this row."""
        return int(getattr(row, self.key))


@dataclass(frozen=True, slots=True)
class PageKeys:
    """The keys of one page, in its order, and whether rows follow them."""

    keys: list[int]
    more: bool

    def page(self, rows: Sequence[T], span: PageSpan, *, key: str = "id", read_to: int = 0) -> Page[T]:
        """Return the page of these keys, which the rows have as `key`.

        `read_to`: the highest key there was; an ascending reader need not look below it.
        """
        end = self.keys[-1] if self.keys else (span.before or 0) if span.descending else span.after
        if self.more:
            return Page(rows, end, end, key)
        return Page(rows, None, end if span.descending else max(end, read_to), key)


class Part(NamedTuple):
    """A piece of a table. `apart`: its rows are found by another index than the key's, and put in order then."""

    where: ColumnElement[bool]
    apart: bool = False


def select_keys(
    connection: Connection,
    key: ColumnElement[int],
    contents: Sequence[ColumnElement[Any]],
    conditions: Sequence[ColumnElement[bool]],
    span: PageSpan,
    parts: Iterable[Part] = (Part(true()),),
) -> PageKeys:
    """Select the keys of a page, before any content is read: only as many as fit in MAX_PAGE_BYTES, but at least one.

    `contents` are all columns whose size senders choose, or, as integers, sizes in bytes.
    `parts` cut the table into pieces in the span's order, which are looked through until the page is full.
    """
    sizes = [func.coalesce(_size_of(connection, content), 0) for content in contents]
    query = select(key, sum(sizes[1:], sizes[0])).where(key > span.after, *conditions)
    if span.before is not None:
        query = query.where(key < span.before)
    found: list[tuple[int, int]] = []
    for part in parts:
        missing = span.limit + 1 - len(found)
        some = ordered(query.where(part.where), key + 0 if part.apart else key, span).limit(missing)
        found += [(row[0], row[1]) for row in connection.execute(some)]
        if len(found) > span.limit:
            break
    return _fitting(found, span.limit)


def _size_of(connection: Connection, content: ColumnElement[Any]) -> ColumnElement[int]:
    """Return the bytes of a text or a value of bytes; length() alone counts a text's characters."""
    if isinstance(content.type, Integer):
        return content
    if isinstance(content.type, LargeBinary):
        return func.length(content)
    return (
        func.octet_length(content)
        if connection.dialect.name == "postgresql"
        else func.length(cast(content, LargeBinary))
    )


def ordered(query: Select[*Columns], key: ColumnElement[int], span: PageSpan) -> Select[*Columns]:
    """Return the query in the span's order."""
    return query.order_by(key.desc() if span.descending else key)


def _fitting(found: Sequence[tuple[int, int]], limit: int) -> PageKeys:
    keys: list[int] = []
    total = 0
    for key, size in found[:limit]:
        total += size
        if keys and total > MAX_PAGE_BYTES:
            break
        keys.append(key)
    return PageKeys(keys, more=len(keys) < len(found))
