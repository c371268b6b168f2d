"""Products: how many devices each has, how many of them are silent, and how much they send."""

from __future__ import annotations

from collections import Counter

from msgspec import Struct
from sqlalchemy import BigInteger, Connection, Float, case, cast, func, select

from ingest.times import Time
from storage.books.sql import DAY
from storage.queries.device_groups import silent_counts
from storage.queries.device_rows import USUAL, Silences
from storage.queries.times import as_time
from storage.tables import devices


class ProductRow(Struct, frozen=True, kw_only=True):
    """A product. `events_usually` is the sum of what its devices usually send a day."""

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
    """Return the products that devices are of. This reads through all devices."""
    silent: Counter[str] = Counter()
    for group, count in silent_counts(connection, silences).items():
        silent[group.product] += count
    day = silences.now // DAY
    today = func.sum(case((devices.c.day == day, devices.c.today), else_=0))
    usually = func.sum(func.coalesce(USUAL.element, case((devices.c.day < day, devices.c.today), else_=0)))
    query = select(
        devices.c.product, func.count(), cast(today, BigInteger), cast(usually, Float), func.max(devices.c.last_at)
    ).group_by(devices.c.product)
    return [
        ProductRow(
            product=product,
            devices=count,
            silent=silent[product],
            events_today=events_today,
            events_usually=round(events_usually, 1),
            last_event=as_time(last_at),
        )
        for product, count, events_today, events_usually, last_at in connection.execute(
            query.order_by(devices.c.product)
        )
    ]
