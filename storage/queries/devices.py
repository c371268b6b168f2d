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
    exists,
    func,
    literal,
    literal_column,
    select,
    text,
    tuple_,
    union_all,
)

from storage.queries.device_groups import Group, groups, silent_within
from storage.queries.device_rows import USUAL, DeviceRow, Silences, device_row, in_full
from storage.tables import NOT_RECOVERED, devices, losses

# Up to this many silent or missing devices, to find them by their own index and sort them beats walking through all.
_FEW = 20_000

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
    parts = [part.subquery() for part in _parts(connection, wanted, span, silences)]
    if not parts:
        return DevicePage([], None)
    together = union_all(*map(select, parts)).subquery()
    page = select(together).order_by(*_order(together, span)).limit(span.limit + 1).subquery()
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
    table: FromClause = devices
    others: list[ColumnElement[bool]] = [] if wanted.product is None else [devices.c.product == wanted.product]
    missing = _missing(wanted.product)
    few_missing = wanted.missing and _are_few(connection, missing)
    if few_missing:
        few = missing.subquery()
        table = devices.join(few, and_(few.c.product == devices.c.product, few.c.device == devices.c.device))
    elif wanted.missing:
        of_device = (losses.c.product == devices.c.product, losses.c.device == devices.c.device)
        others.append(exists().where(*of_device, text(NOT_RECOVERED)))
    by_group = {group: group.members() for group in sorted(groups(connection, wanted.product))}
    if wanted.silent:
        by_group = {group: within for group in by_group if (within := silent_within(group, silences))}
    few_silent = wanted.silent and not few_missing and _are_few(connection, *map(_keys, by_group.values()))
    if span.order == "device" and not few_silent:
        silent = [_is_silent(silences)] if wanted.silent else []
        yield _part(table, [*others, *silent, *_behind_key(span, sort=few_missing)], span, sort=few_missing)
        return
    for turn, (group, members) in enumerate(by_group.items()):
        behind = _behind_key(span, sort=True) if span.order == "device" else _behind_heard(span, group)
        yield _part(table, [*others, *members, *behind], span, turn, sort=True)


def _part(
    table: FromClause, conditions: Sequence[ColumnElement[bool]], span: DeviceSpan, turn: int = 0, *, sort: bool
) -> Select[Any]:
    """Return the first rows that fulfil conditions. `sort`: the index of the conditions is the one to go by."""
    query = select(devices, USUAL, literal_column(str(turn)).label("turn")).select_from(table).where(*conditions)
    key = _key(sort=sort) if span.order == "device" else (devices.c.heard_at, devices.c.device)
    return query.order_by(*_directed(key, span)).limit(span.limit + 1)


def _key(*, sort: bool) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    """Return product and device; where they are to be sorted, as what no index has."""
    key = devices.c.product, devices.c.device
    return (key[0].concat(""), key[1].concat("")) if sort else key


def _behind_key(span: DeviceSpan, *, sort: bool) -> list[ColumnElement[bool]]:
    if span.after is None:
        return []
    key, after = tuple_(*_key(sort=sort)), tuple_(*(literal(part, Text) for part in span.after))
    return [key < after if span.descending else key > after]


def _behind_heard(span: DeviceSpan, group: Group) -> list[ColumnElement[bool]]:
    """Return the condition of what is behind a device in the order of hearing; at one time groups have their turns."""
    if span.after is None:
        return []
    heard_at, product, source, device = cast("tuple[int, str, str, str]", span.after)
    at, descending = literal(heard_at, BigInteger), span.descending
    if group == (product, source):
        own, after = tuple_(devices.c.heard_at, devices.c.device), tuple_(at, literal(device, Text))
        return [own < after if descending else own > after]
    if descending:
        return [devices.c.heard_at <= at if group < (product, source) else devices.c.heard_at < at]
    return [devices.c.heard_at >= at if group > (product, source) else devices.c.heard_at > at]


def _is_silent(silences: Silences) -> ColumnElement[bool]:
    """Return the condition of silent devices in a form that no index is used for."""
    before = {source: literal(silences.heard_before(source) or 0, BigInteger) for source in silences.silent_after}
    limit = case(before, value=devices.c.source, else_=literal(0, BigInteger)) if before else literal(0, BigInteger)
    return and_(devices.c.heard_at + 0 > 0, devices.c.heard_at + 0 < limit)


def _missing(product: str | None) -> Select[Any]:
    """Return the keys of devices of which numbers are missing or lost; no more than a few and one."""
    keys = select(losses.c.product, losses.c.device).where(text(NOT_RECOVERED)).distinct().limit(_FEW + 1)
    return keys if product is None else keys.where(losses.c.product == product)


def _keys(conditions: Sequence[ColumnElement[bool]]) -> Select[Any]:
    return select(devices.c.device).where(*conditions).limit(_FEW + 1)


def _are_few(connection: Connection, *queries: Select[Any]) -> bool:
    counts = (connection.execute(select(func.count()).select_from(query.subquery())).scalar_one() for query in queries)
    return sum(counts) <= _FEW


def _order(table: FromClause, span: DeviceSpan) -> Sequence[ColumnElement[Any]]:
    names = ("product", "device") if span.order == "device" else ("heard_at", "turn", "device")
    return _directed([table.c[name] for name in names], span)


def _directed(key: Sequence[ColumnElement[Any]], span: DeviceSpan) -> Sequence[ColumnElement[Any]]:
    return [column.desc() for column in key] if span.descending else key


def _cursor_of(row: Any, order: Order) -> Cursor:
    return (row.product, row.device) if order == "device" else (row.heard_at, row.product, row.source, row.device)
