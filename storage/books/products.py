"""What was heard of each product's devices together, so that nobody has to add up a million of them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from sqlalchemy import Connection, TextClause, delete, update

from storage.books.days import day_added
from storage.books.sql import LARGER, SMALLER, WITHIN, statement_of
from storage.tables import products

# Each device is looked up by its key, which PostgreSQL does not do for EXISTS where it knows of few.
_IS_NEW = """
  (SELECT 1 FROM devices WHERE devices.product = events.product AND devices.device = events.device LIMIT 1) IS NULL
"""
_POST = """
INSERT INTO products (product, devices, first_at, last_at, day, today, before)
SELECT product, count(DISTINCT CASE WHEN {is_new} THEN device END), min(received_at), max(received_at),
  CAST(:day AS BIGINT), count(*), 0
FROM events WHERE {within} AND device IS NOT NULL GROUP BY product
ON CONFLICT (product) DO UPDATE SET
  devices = products.devices + excluded.devices,
  first_at = {smaller}(products.first_at, excluded.first_at),
  last_at = {larger}(products.last_at, excluded.last_at),
  {day_added}
"""


def post(connection: Connection, day: int, after: int, end: int) -> None:
    """Post the events behind `after` up to `end`, all of one day, before their devices are."""
    connection.execute(_posting(connection.dialect.name), {"day": day, "after": after, "end": end})


def take_off(connection: Connection, gone: Mapping[str, int]) -> None:
    """Count fewer devices by product; forget a product that has none left."""
    for product, count in gone.items():
        own = products.c.product == product
        connection.execute(update(products).where(own).values(devices=products.c.devices - count))
        connection.execute(delete(products).where(own, products.c.devices <= 0))


@cache
def _posting(dialect: str) -> TextClause:
    return statement_of(
        _POST.format(
            is_new=_IS_NEW,
            within=WITHIN,
            larger=LARGER[dialect],
            smaller=SMALLER[dialect],
            day_added=day_added("products"),
        )
    )
