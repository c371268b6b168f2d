"""Products: how many devices each has, how many of them are silent, and how much they send."""

from __future__ import annotations

from collections import Counter

from msgspec import Struct
from sqlalchemy import Connection, Float, literal_column, select

from ingest.times import Time
from storage.books.days import usual
from storage.books.sql import DAY
from storage.queries.device_groups import silent_counts
from storage.queries.device_rows import Silences, usual_of
from storage.queries.times import as_time
from storage.tables import products


class ProductRow(Struct, frozen=True, kw_only=True):
    """A product. `events_usually` is the mean of the days before its last one, as of a device; 0 on its first."""

    product: str
    devices: int
    silent: int
    events_today: int
    events_usually: float
    last_event: Time


EXAMPLE = ProductRow(
    product="tracker",
    devices=1200,
    silent=3,
    events_today=80412,
    events_usually=115403.5,
    last_event="2026-07-28T16:53:05.702Z",
)


def product_rows(connection: Connection, silences: Silences) -> list[ProductRow]:
    """Return the products that devices are of. This reads as many devices as are silent."""
    silent: Counter[str] = Counter()
    for group, count in silent_counts(connection, silences).items():
        silent[group.product] += count
    query = select(products, literal_column(usual("products"), Float).label("usual")).order_by(products.c.product)
    return [
        ProductRow(
            product=row.product,
            devices=row.devices,
            silent=silent[row.product],
            events_today=row.today if row.day == silences.now // DAY else 0,
            events_usually=round(usual_of(row, silences.now) or 0.0, 1),
            last_event=as_time(row.last_at),
        )
        for row in connection.execute(query)
    ]
