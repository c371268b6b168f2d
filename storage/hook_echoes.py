"""The vendor's own word on its webhooks, tallied by the hour and by name, in the commit that ignores it.

Names come from outside: of an hour no more than 200 are kept for a source and mode, and all others are one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from sqlalchemy import Connection, delete, func, select

from ingest.event import Ignored
from storage import bulk
from storage.rows import to_micros
from storage.tables import hook_echoes
from storage.transactions import transaction

MOST_NAMES = 200
OTHERS = "(others)"
HOUR_MICROS = 3_600_000_000
_COLUMNS = ("hour", "source", "mode", "name", "outcome", "count")
_ADD_UP = "ON CONFLICT (hour, source, mode, name, outcome) DO UPDATE SET count = hook_echoes.count + excluded.count"

_Way = tuple[int, str, str]  # hour, source and mode


def add(connection: Connection, echoes: Sequence[Ignored]) -> None:
    """Tally echoes."""
    ways: dict[_Way, Counter[tuple[str, str]]] = {}
    for ignored in echoes:
        if (echo := ignored.echo) is not None:
            way = to_micros(ignored.received_at) // HOUR_MICROS, ignored.source, ignored.mode
            ways.setdefault(way, Counter())[echo.name, echo.outcome.value] += 1
    for way, counts in sorted(ways.items()):
        rows = [(*way, *what, count) for what, count in _bounded(connection, way, counts).items()]
        bulk.insert(connection, hook_echoes, _COLUMNS, rows, _ADD_UP)


def _bounded(connection: Connection, way: _Way, counts: Counter[tuple[str, str]]) -> Counter[tuple[str, str]]:
    """Return the counts with all names as one that there is no room for."""
    hour, source, mode = way
    of_way = (hook_echoes.c.hour == hour, hook_echoes.c.source == source, hook_echoes.c.mode == mode)
    names = set(connection.execute(select(hook_echoes.c.name).where(*of_way).distinct()).scalars()) | {OTHERS}
    bounded: Counter[tuple[str, str]] = Counter()
    for (name, outcome), count in counts.items():
        if len(names) <= MOST_NAMES:
            names.add(name)
        bounded[name if name in names else OTHERS, outcome] += count
    return bounded


@transaction
def forget_hour(connection: Connection, before: int) -> int:
    """Forget the oldest hour where that was over `before`, in microseconds; return how many rows that were."""
    oldest = connection.execute(select(func.min(hook_echoes.c.hour))).scalar()
    if oldest is None or (oldest + 1) * HOUR_MICROS > before:
        return 0
    gone = delete(hook_echoes).where(hook_echoes.c.hour == oldest)
    return connection.execute(gone).rowcount
