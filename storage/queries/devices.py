"""Devices by filter, page by page: each page is found by an index, however many devices there are.

Those of one product and source are a group: within it they lie in the order in which they were heard, so that the
silent ones come first. A page in that order is merged from the groups' own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, cast

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    FromClause,
    Select,
    Text,
    and_,
    case,
    func,
    literal,
    literal_column,
    select,
    text,
    tuple_,
    union_all,
)

from storage.queries.device_groups import EVER, Group, go_by_order, groups, plain, silent_stretch
from storage.queries.device_rows import USUAL, DeviceRow, Silences, device_row, in_full
from storage.tables import NOT_RECOVERED, devices, losses

# Up to this many silent or missing devices, to find them by their own index and sort them beats walking through all.
_FEW = 2_000

Order = Literal["device", "heard"]
Cursor = tuple[str, str] | tuple[int, str, str, str]  # product and device; or when heard, product, source and device


@dataclass(frozen=True, slots=True)
class DeviceFilter:
    """Which devices: all that is given must hold."""

    product: str | None = None
    silent: bool = False
    missing: bool = False


@dataclass(frozen=True, slots=True)
class DeviceSpan:
    """At most `limit` devices behind `after`, which is of the same order."""

    limit: int = 100
    order: Order = "device"
    descending: bool = False
    after: Cursor | None = None


class DevicePage(NamedTuple):
    """Devices in the order asked for. `next` is where to go on; None when there are no more."""

    rows: Sequence[DeviceRow]
    next: Cursor | None


def devices_page(connection: Connection, wanted: DeviceFilter, span: DeviceSpan, silences: Silences) -> DevicePage:
    """Return the devices of a span that pass the filter."""
    go_by_order(connection)
    parts = [part.subquery() for part in _parts(connection, wanted, span, silences)]
    if not parts:
        return DevicePage([], None)
    together = union_all(*map(select, parts)).subquery()
    page = select(together).order_by(*_order(together, span)).limit(_rows(span)).subquery()
    rows = connection.execute(in_full(page).order_by(*_order(page, span))).all()
    shown = rows[: span.limit]
    following = _cursor_of(shown[-1], span.order) if len(rows) > span.limit else None
    return DevicePage([device_row(row, silences) for row in shown], following)


def device_by_id(
    connection: Connection, device: str, silences: Silences, product: str | None = None
) -> DeviceRow | None:
    """Return a device, of several products' of this id the one that was heard of last; None where there is none."""
    products = {group.product for group in groups(connection, product)}
    own = select(devices, USUAL).where(devices.c.product.in_(products), devices.c.device == device)
    newest = own.order_by(devices.c.last_at.desc(), devices.c.product).limit(1).subquery()
    row = connection.execute(in_full(newest)).one_or_none()
    return None if row is None else device_row(row, silences)


def _parts(connection: Connection, wanted: DeviceFilter, span: DeviceSpan, silences: Silences) -> Iterator[Select[Any]]:
    """Yield statements that together hold a page: one that walks through all devices by key, or one for each group."""
    table, others, few_missing = _with_missing(connection, wanted)
    own = {
        group: silent_stretch(group, silences) if wanted.silent else (0, EVER) for group in _groups(connection, wanted)
    }
    few_silent = wanted.silent and not few_missing and _are_few(connection, *map(_keys, own.items()))
    if span.order == "device" and not few_silent:
        if wanted.product is not None:
            others.append(devices.c.product == wanted.product)
        if wanted.silent:
            others.append(_is_silent(silences))
        yield _part(table, [*others, *_behind_key(span, sort=few_missing)], span, sort=few_missing)
        return
    for turn, (group, stretch) in enumerate(own.items()):
        if span.order == "device":
            conditions = [group.heard(*stretch), *_behind_key(span, sort=True)]
        else:
            conditions = _behind_heard(group, stretch, span, sort=few_missing)
        yield _part(table, [*others, *conditions], span, turn, sort=True)


def _groups(connection: Connection, wanted: DeviceFilter) -> list[Group]:
    """Return the groups in the order that they have everywhere, whatever a database thinks of letters."""
    return sorted(groups(connection, wanted.product))


def _with_missing(connection: Connection, wanted: DeviceFilter) -> tuple[FromClause, list[ColumnElement[bool]], bool]:
    """Return the table and the conditions of devices of which numbers are missing, if they are wanted.

    And whether they are few: then the table has only these.
    """
    if not wanted.missing:
        return devices, [], False
    keys = select(losses.c.product, losses.c.device).where(text(NOT_RECOVERED)).distinct().limit(_FEW + 1)
    few = (keys if wanted.product is None else keys.where(losses.c.product == wanted.product)).subquery()
    if _are_few(connection, select(few)):
        of_few = and_(few.c.product == devices.c.product, few.c.device == devices.c.device)
        return devices.join(few, of_few), [], True
    of_device = (losses.c.product == devices.c.product, losses.c.device == devices.c.device)
    one = select(losses.c.id).where(*of_device, text(NOT_RECOVERED)).limit(1)
    return devices, [one.correlate(devices).scalar_subquery().is_not(None)], False  # asked row by row, unlike EXISTS


def _part(
    table: FromClause, conditions: Sequence[ColumnElement[bool]], span: DeviceSpan, turn: int = 0, *, sort: bool
) -> Select[Any]:
    """Return the first rows that fulfil conditions. `sort`: by key they are not in the order of an index."""
    query = select(devices, USUAL, literal_column(str(turn)).label("turn")).select_from(table).where(*conditions)
    by_hearing = (devices.c.product, devices.c.source, devices.c.heard_at, devices.c.device)
    key = _key(sort=sort) if span.order == "device" else by_hearing
    return query.order_by(*_directed(key, span)).limit(_rows(span))


def _key(*, sort: bool) -> Sequence[ColumnElement[str]]:
    key = (devices.c.product, devices.c.device)
    return plain(*key) if sort else key


def _behind_key(span: DeviceSpan, *, sort: bool) -> list[ColumnElement[bool]]:
    if span.after is None:
        return []
    key, after = tuple_(*_key(sort=sort)), tuple_(*(literal(part, Text) for part in span.after))
    return [key < after if span.descending else key > after]


def _behind_heard(group: Group, stretch: tuple[int, int], span: DeviceSpan, *, sort: bool) -> list[ColumnElement[bool]]:
    """Return the conditions of what is behind a device in the order of hearing; at one time groups have their turns."""
    if span.after is None:
        return [group.heard(*stretch, sort=sort)]
    heard_at, product, source, device = cast("tuple[int, str, str, str]", span.after)
    (since, before), turn = stretch, Group(product, source)
    if span.descending:
        before = min(before, heard_at + (group <= turn))
    else:
        since = max(since, heard_at + (group < turn))
    conditions = [group.heard(since, before, sort=sort)]
    if group == turn:
        key = tuple_(devices.c.heard_at, devices.c.device)
        after = tuple_(literal(heard_at, BigInteger), literal(device, Text))
        conditions.append(key < after if span.descending else key > after)
    return conditions


def _is_silent(silences: Silences) -> ColumnElement[bool]:
    """Return the condition of silent devices in a form that no index is used for."""
    never = literal(0, BigInteger)
    before = {source: literal(silences.heard_before(source) or 0, BigInteger) for source in silences.silent_after}
    limit = case(before, value=devices.c.source, else_=never) if before else never
    return and_(devices.c.heard_at + 0 > 0, devices.c.heard_at + 0 < limit)


def _keys(group: tuple[Group, tuple[int, int]]) -> Select[Any]:
    return select(devices.c.device).where(group[0].heard(*group[1])).limit(_FEW + 1)


def _are_few(connection: Connection, *queries: Select[Any]) -> bool:
    counts = (connection.execute(select(func.count()).select_from(query.subquery())).scalar_one() for query in queries)
    return sum(counts) <= _FEW


def _rows(span: DeviceSpan) -> ColumnElement[int]:
    """Return how many rows to read, as a number that a plan for any values knows too."""
    return literal_column(str(span.limit + 1), BigInteger)


def _order(table: FromClause, span: DeviceSpan) -> Sequence[ColumnElement[Any]]:
    names = ("product", "device") if span.order == "device" else ("heard_at", "turn", "device")
    return _directed([table.c[name] for name in names], span)


def _directed(key: Sequence[ColumnElement[Any]], span: DeviceSpan) -> Sequence[ColumnElement[Any]]:
    return [column.desc() for column in key] if span.descending else key


def _cursor_of(row: Any, order: Order) -> Cursor:
    return (row.product, row.device) if order == "device" else (row.heard_at, row.product, row.source, row.device)
