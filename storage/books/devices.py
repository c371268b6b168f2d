"""What was heard of each device: one statement for a stretch of events, in which the database does the counting.

Whatever is kept does not depend on where the stretches are cut: the newest by position, the earliest, the latest, sums.
"""

from __future__ import annotations

from functools import cache

from sqlalchemy import Connection, TextClause

from storage.books.sql import DAY, LARGER, OF_VENDOR, SMALLER, WITHIN, runs_of_days, statement_of

_FADING = 7 / 8
_COUNTED_DAYS = 56  # the events of one that is further back weigh less than 1/1770

# Only what is written as it is: an escape may stand for what a text cannot hold. (A regular expression takes 16 µs.)
_WRITTEN = {
    "sqlite": "json_extract({0}.attributes, '$.fw_version')",
    "postgresql": """split_part(split_part(',' || substr({0}.attributes, 2), ',"fw_version":"', 2), '"', 1)""",
}
_IS_PLAIN = {
    "sqlite": """instr({0}.attributes, '"fw_version":"' || {written} || '"') > 0""",
    "postgresql": "strpos({written}, chr(92)) = 0",
}
_FIRMWARE = "CASE WHEN length({written}) BETWEEN 1 AND 64 AND {is_plain} THEN {written} END"

# The events are all of one day. Where that is later than the device's last one, the days before fade.
_POST = """
INSERT INTO devices (product, device, source, position, first_at, last_at, heard_at, firmware, day, today, before)
SELECT step.product, step.device, newest.source, step.position, step.first_at, step.last_at, step.heard_at,
  {told_firmware}, :day, step.events, 0
FROM (
  SELECT product, device, max(position) AS position, min(received_at) AS first_at, max(received_at) AS last_at,
    max(CASE WHEN {of_vendor} THEN 0 ELSE received_at END) AS heard_at,
    max(CASE WHEN {firmware} IS NOT NULL THEN position END) AS told_at, count(*) AS events
  FROM events WHERE {within} AND device IS NOT NULL
  GROUP BY product, device
) AS step
JOIN events AS newest ON newest.position = step.position AND newest.{within_newest}
LEFT JOIN events AS told ON told.position = step.told_at AND told.{within_told}
WHERE true
ON CONFLICT (product, device) DO UPDATE SET
  source = CASE WHEN excluded.position > devices.position THEN excluded.source ELSE devices.source END,
  position = {larger}(devices.position, excluded.position),
  first_at = {smaller}(devices.first_at, excluded.first_at),
  last_at = {larger}(devices.last_at, excluded.last_at),
  heard_at = {larger}(devices.heard_at, excluded.heard_at),
  firmware = coalesce(excluded.firmware, devices.firmware),
  before = CASE
    WHEN excluded.day = devices.day THEN devices.before
    WHEN excluded.day > devices.day THEN devices.before * {device_fades} + devices.today * {its_day_fades}
    ELSE devices.before + excluded.today * {late_day_fades} END,
  today = CASE
    WHEN excluded.day = devices.day THEN devices.today + excluded.today
    WHEN excluded.day > devices.day THEN excluded.today
    ELSE devices.today END,
  day = {larger}(devices.day, excluded.day)
"""


def post(connection: Connection, after: int, end: int) -> None:
    """Post the events behind `after` up to `end`."""
    for day, first, last in runs_of_days(connection, after, end):
        connection.execute(_posting(connection.dialect.name), {"day": day, "after": first, "end": last})


def faded(days: str) -> str:
    """Return the expression of SQL for what a day weighs that is so many days back. Not every SQLite has pow()."""
    weights = " ".join(f"WHEN {number} THEN {_FADING**number!r}" for number in range(_COUNTED_DAYS))
    return f"(CASE {days} {weights} ELSE 0.0 END)"


def usual() -> str:
    """Return the expression of SQL for a day's events before a device's last day; NULL where that is its first."""
    days = faded(f"devices.day - devices.first_at / {DAY}")
    return f"devices.before / nullif((1 - {days}) / {1 - _FADING!r}, 0)"


@cache
def _posting(dialect: str) -> TextClause:
    within = WITHIN.replace("position <=", "{0}.position <=")
    words = _POST.format(
        of_vendor=OF_VENDOR,
        firmware=_firmware(dialect, "events"),
        told_firmware=_firmware(dialect, "told"),
        within=WITHIN,
        within_newest=within.format("newest"),
        within_told=within.format("told"),
        larger=LARGER[dialect],
        smaller=SMALLER[dialect],
        device_fades=faded("excluded.day - devices.day"),
        its_day_fades=faded("excluded.day - devices.day - 1"),
        late_day_fades=faded("devices.day - excluded.day - 1"),
    )
    return statement_of(words)


def _firmware(dialect: str, table: str) -> str:
    written = _WRITTEN[dialect].format(table)
    return _FIRMWARE.format(written=written, is_plain=_IS_PLAIN[dialect].format(table, written=written))
