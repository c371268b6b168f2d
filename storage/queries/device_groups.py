"""Groups of devices: those of a product whose last event came by one source. An index has each in a row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, func, select

from storage.queries.device_rows import Silences
from storage.tables import devices

EVER = 2**63 - 1  # later than any time


class Group(NamedTuple):
    """The devices of a product whose last event came by one source."""

    product: str
    source: str

    def heard(self, since: int = 0, before: int = EVER, *, sort: bool = False) -> ColumnElement[bool]:
        """Return the condition of its devices that were heard last in a stretch of time: a stretch of the index.

        `sort`: so that the index is not used.
        """
        product, source = plain(devices.c.product, devices.c.source) if sort else (devices.c.product, devices.c.source)
        return and_(
            product == self.product, source == self.source, devices.c.heard_at >= since, devices.c.heard_at < before
        )


def plain(*columns: ColumnElement[str]) -> list[ColumnElement[str]]:
    """Return columns as values of which there is no index."""
    return [column.concat("") for column in columns]


def go_by_order(connection: Connection) -> None:
    """Let PostgreSQL read the first rows of an index and not sort all it holds, which it takes for a few."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.set_config("enable_bitmapscan", "off", True)))


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


def silent_stretch(group: Group, silences: Silences) -> tuple[int, int]:
    """Return since and before when the silent devices of a group were heard last; 0: never, is none of them."""
    return 1, silences.heard_before(group.source) or 1


def silent_counts(connection: Connection, silences: Silences) -> dict[Group, int]:
    """Return how many devices of each group are silent."""
    count = select(func.count()).select_from(devices)
    return {
        group: connection.execute(count.where(group.heard(*silent_stretch(group, silences)))).scalar_one()
        for group in groups(connection)
    }
