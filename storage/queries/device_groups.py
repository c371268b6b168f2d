"""Groups of devices: those of a product whose last event came by one source. An index has each in a row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, func, select

from storage.queries.device_rows import Silences
from storage.tables import devices


class Group(NamedTuple):
    """The devices of a product whose last event came by one source."""

    product: str
    source: str

    def members(self) -> tuple[ColumnElement[bool], ...]:
        """Return the conditions of its devices, which the index has in the order in which they were heard."""
        return devices.c.product == self.product, devices.c.source == self.source


def groups(connection: Connection, product: str | None = None) -> list[Group]:
    """Return all groups, or those of a product, each found by one look into the index."""
    products = [product] if product is not None else _distinct(connection, devices.c.product)
    return [
        Group(product, source)
        for product in products
        for source in _distinct(connection, devices.c.source, devices.c.product == product)
    ]


def _distinct(connection: Connection, column: ColumnElement[str], *within: ColumnElement[bool]) -> Iterator[str]:
    """Yield the values of a column, going from each to the next one: DISTINCT would read all rows."""
    query = first = select(column).where(*within).order_by(column).limit(1)
    while (value := connection.execute(query).scalar()) is not None:
        yield value
        query = first.where(column > value)


def silent_within(group: Group, silences: Silences) -> tuple[ColumnElement[bool], ...] | None:
    """Return the conditions of a group's silent devices, a stretch of the index; None where none can be."""
    before = silences.heard_before(group.source)
    return None if before is None else (*group.members(), devices.c.heard_at > 0, devices.c.heard_at < before)


def silent_counts(connection: Connection, silences: Silences, product: str | None = None) -> dict[Group, int]:
    """Return how many devices of each group are silent."""
    counts: dict[Group, int] = {}
    for group in groups(connection, product):
        within = silent_within(group, silences)
        count = select(func.count()).select_from(devices)
        counts[group] = 0 if within is None else connection.execute(count.where(*within)).scalar_one()
    return counts
