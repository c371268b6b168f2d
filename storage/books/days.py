"""Events by day of whoever is counted in `day`, `today` and `before` (storage.tables): what is added, what is usual."""

from __future__ import annotations

from storage.books.sql import DAY

_FADING = 7 / 8
_COUNTED_DAYS = 56  # the events of one that is further back weigh less than 1/1770

# Where the day of the new events is later than the last one, the days before fade.
_ADDED = """before = CASE
    WHEN excluded.day = {table}.day THEN {table}.before
    WHEN excluded.day > {table}.day THEN {table}.before * {fades} + {table}.today * {last_day_fades}
    ELSE {table}.before + excluded.today * {late_day_fades} END,
  today = CASE
    WHEN excluded.day = {table}.day THEN {table}.today + excluded.today
    WHEN excluded.day > {table}.day THEN excluded.today
    ELSE {table}.today END,
  day = CASE WHEN excluded.day > {table}.day THEN excluded.day ELSE {table}.day END"""


def faded(days: str) -> str:
    """Return the expression of SQL for what a day weighs that is so many days back. Not every SQLite has pow()."""
    weights = " ".join(f"WHEN {number} THEN {_FADING**number!r}" for number in range(_COUNTED_DAYS))
    return f"(CASE {days} {weights} ELSE 0.0 END)"


def day_added(table: str) -> str:
    """Return what an upsert sets where `excluded` has the events of one day."""
    return _ADDED.format(
        table=table,
        fades=faded(f"excluded.day - {table}.day"),
        last_day_fades=faded(f"excluded.day - {table}.day - 1"),
        late_day_fades=faded(f"{table}.day - excluded.day - 1"),
    )


def usual(table: str) -> str:
    """Return the expression of SQL for a day's events before the last one; NULL where that is the first."""
    days = faded(f"{table}.day - {table}.first_at / {DAY}")
    return f"{table}.before / nullif((1 - {days}) / {1 - _FADING!r}, 0)"
