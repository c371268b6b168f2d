"""What was heard of each device: one statement for a stretch of events, in which the database does the counting.

Whatever is kept does not depend on where the stretches are cut: the newest by position, the earliest, the latest, sums.
"""

from __future__ import annotations

from collections import Counter
from functools import cache

from sqlalchemy import Connection, Text, TextClause, delete, literal, select, tuple_

from storage.books import products
from storage.books.days import day_added
from storage.books.sql import LARGER, OF_VENDOR, SMALLER, WITHIN, runs_of_days, statement_of
from storage.tables import devices
from storage.transactions import transaction

_SWEPT_DEVICES = 1000  # in one step

# Only what is written as it is: an escape may stand for what a text cannot hold. (A regular expression takes 16 µs.)
_WRITTEN = {
    "sqlite": "json_extract(attributes, '$.fw_version')",
    "postgresql": """split_part(split_part(',' || substr(attributes, 2), ',"fw_version":"', 2), '"', 1)""",
}
_IS_PLAIN = {
    "sqlite": """instr(attributes, '"fw_version":"' || {written} || '"') > 0""",
    "postgresql": "strpos({written}, chr(92)) = 0",
}
_FIRMWARE = "CASE WHEN length({written}) BETWEEN 1 AND 64 AND {is_plain} THEN {written} END"

# The events are all of one day.
_POST = """
INSERT INTO devices (product, device, source, position, first_at, last_at, heard_at, firmware, day, today, before)
SELECT product, device, (SELECT source FROM events WHERE events.position = step.position AND {within}),
  position, first_at, last_at, heard_at,
  (SELECT {firmware} FROM events WHERE events.position = step.told_at AND {within}), CAST(:day AS BIGINT), count, 0
FROM (
  SELECT product, device, max(position) AS position, min(received_at) AS first_at, max(received_at) AS last_at,
    max(CASE WHEN {of_vendor} THEN 0 ELSE received_at END) AS heard_at,
    max(CASE WHEN {firmware} IS NOT NULL THEN position END) AS told_at, count(*) AS count
  FROM events WHERE {within} AND device IS NOT NULL
  GROUP BY product, device
) AS step WHERE true
ON CONFLICT (product, device) DO UPDATE SET
  source = CASE WHEN excluded.position > devices.position THEN excluded.source ELSE devices.source END,
  position = {larger}(devices.position, excluded.position),
  first_at = {smaller}(devices.first_at, excluded.first_at),
  last_at = {larger}(devices.last_at, excluded.last_at),
  heard_at = {larger}(devices.heard_at, excluded.heard_at),
  firmware = coalesce(excluded.firmware, devices.firmware),
  {day_added}
"""


def post(connection: Connection, after: int, end: int) -> None:
    """Post the events behind `after` up to `end`, to their products too, which count the devices that are new."""
    for day, first, last in runs_of_days(connection, after, end):
        products.post(connection, day, first, last)
        connection.execute(_posting(connection.dialect.name), {"day": day, "after": first, "end": last})


@transaction
def forget_some(connection: Connection, before: int, behind: tuple[str, str]) -> tuple[str, str]:
    """Forget those of the next devices behind one that nothing was heard of since `before`, in microseconds.

    Return the product and device behind which to go on; at the end ("", ""), which is where it begins.
    """
    key = tuple_(devices.c.product, devices.c.device)
    within = key > tuple_(*(literal(part, Text) for part in behind))
    some = select(devices.c.product, devices.c.device).where(within)
    rows = connection.execute(some.order_by(devices.c.product, devices.c.device).limit(_SWEPT_DEVICES)).all()
    if not rows:
        return "", ""
    product, device = rows[-1]
    step = key <= tuple_(literal(product, Text), literal(device, Text))
    old = delete(devices).where(within, step, devices.c.last_at < before).returning(devices.c.product)
    products.take_off(connection, Counter(connection.execute(old).scalars()))
    return (product, device) if len(rows) == _SWEPT_DEVICES else ("", "")


@cache
def _posting(dialect: str) -> TextClause:
    written = _WRITTEN[dialect]
    words = _POST.format(
        firmware=_FIRMWARE.format(written=written, is_plain=_IS_PLAIN[dialect].format(written=written)),
        of_vendor=OF_VENDOR,
        within=WITHIN,
        larger=LARGER[dialect],
        smaller=SMALLER[dialect],
        day_added=day_added("devices"),
    )
    return statement_of(words)
