"""The vendor's own word on its webhooks by hour and name, beside the events of that name that were stored.

An indication: an echo has no id, counts an attempt, and is counted again by each stream that hears it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import Struct
from sqlalchemy import Connection, func, select

from ingest.event import EchoOutcome
from ingest.times import Time
from storage.gaps import SourceKey
from storage.hook_echoes import HOUR_MICROS, OTHERS
from storage.queries.times import as_time
from storage.rows import to_micros
from storage.tables import events, hook_echoes, ids_of

_MOST_EVENTS = 100_000  # that are looked at for one answer
_CHUNK = 1000  # positions in one statement
_MILLIS_PER_HOUR = HOUR_MICROS // 1000

_Stored = Counter[tuple[str, str]]  # by source and name


class HookEchoRow(Struct, frozen=True, kw_only=True):
    """What the vendor said in an hour of its webhooks for the events of one name, as a source heard it by one mode.

    `stored` are that source's events of this name published in that hour, by whichever mode they came; null where
    there are too many to be counted now, and for `(others)`, which stands for names beyond the first 200 of an hour.
    """

    hour: Time
    source: str
    mode: str
    name: str
    sent: int
    response: int
    error: int
    skipped: int
    stored: int | None


class HookEchoes(Struct, frozen=True, kw_only=True):
    """Rows, the newest hour first. `next` is where to go on as `until`; null where there are no older ones."""

    hook_echoes: Sequence[HookEchoRow]
    next: Time | None


EXAMPLE = HookEchoes(
    hook_echoes=[
        HookEchoRow(
            hour="2026-07-28T16:00:00.000Z",
            source="fleet",
            mode="sse",
            name="temperature",
            sent=1021,
            response=0,
            error=14,
            skipped=7,
            stored=1042,
        )
    ],
    next=None,
)


@dataclass(frozen=True, slots=True)
class EchoFilter:
    """Which echoes: those of hours that begin at or after `since` and before `until`."""

    source: str | None = None
    since: datetime | None = None
    until: datetime | None = None


def echo_sums(connection: Connection) -> dict[SourceKey, dict[str, int]]:
    """Return by outcome what is tallied of each source and mode."""
    sums: dict[SourceKey, dict[str, int]] = {}
    of = hook_echoes.c.source, hook_echoes.c.mode, hook_echoes.c.outcome
    for source, mode, outcome, count in connection.execute(select(*of, func.sum(hook_echoes.c.count)).group_by(*of)):
        sums.setdefault(SourceKey(source, mode), _by_outcome({}))[outcome] = int(count)
    return sums


def no_echoes() -> dict[str, int]:
    """Return the sums where nothing is tallied."""
    return _by_outcome({})


def hook_echoes_page(connection: Connection, wanted: EchoFilter, limit: int) -> HookEchoes:
    """Return at most `limit` rows: whole hours, or a part of one that has more rows than that."""
    found = _tallied(connection, wanted, limit + 1)
    if more := len(found) > limit:
        cut_hour = found[-1].hour
        whole = [row for row in found if row.hour != cut_hour]
        found = whole or found[:limit]
    stored = _stored(connection, {row.hour for row in found})
    last = found[-1].hour if found else 0
    rows = [_shown(row, stored.get(row.hour)) for row in sorted(found, key=_order)]
    return HookEchoes(hook_echoes=rows, next=_hour(last) if more else None)


def _order(row: Any) -> tuple[int, str, str, str]:
    return -row.hour, row.source, row.mode, row.name


def _tallied(connection: Connection, wanted: EchoFilter, limit: int) -> Sequence[Any]:
    """Return rows from the end of the key, so that no more of the table is read than is shown."""
    key = hook_echoes.c.hour, hook_echoes.c.source, hook_echoes.c.mode, hook_echoes.c.name
    sums = [
        func.sum(hook_echoes.c.count).filter(hook_echoes.c.outcome == outcome.value).label(outcome.value)
        for outcome in EchoOutcome
    ]
    query = select(*key, *sums).group_by(*key).order_by(*(column.desc() for column in key)).limit(limit)
    if wanted.source is not None:
        query = query.where(hook_echoes.c.source == wanted.source)
    if wanted.since is not None:
        query = query.where(hook_echoes.c.hour >= -(-to_micros(wanted.since) // HOUR_MICROS))
    if wanted.until is not None:
        query = query.where(hook_echoes.c.hour < -(-to_micros(wanted.until) // HOUR_MICROS))
    return connection.execute(query).all()


def _stored(connection: Connection, hours: set[int]) -> Mapping[int, _Stored]:
    """Return the events published in these hours, as far as they can be counted: the newest hours first."""
    counts: dict[int, _Stored] = {}
    room = _MOST_EVENTS
    for hour in sorted(hours, reverse=True):
        positions = _published_in(connection, hour, room + 1)
        room -= len(positions)
        if room < 0:
            break
        counts[hour] = _names_at(connection, positions)
    return counts


def _published_in(connection: Connection, hour: int, limit: int) -> list[int]:
    """Return the positions of events of an hour: their ids begin with the time in milliseconds."""
    known = ids_of(connection.dialect.name)
    first, last = (UUID(int=max(at, 0) * _MILLIS_PER_HOUR << 80) for at in (hour, hour + 1))
    query = select(known.c.position).where(known.c.id >= first, known.c.id < last).order_by(known.c.id).limit(limit)
    return sorted(connection.execute(query).scalars())


def _names_at(connection: Connection, positions: Sequence[int]) -> _Stored:
    found: _Stored = Counter()
    for start in range(0, len(positions), _CHUNK):
        some = positions[start : start + _CHUNK]
        at = events.c.position
        within = (at.in_(some), at >= some[0], at <= some[-1])  # PostgreSQL chooses partitions by the bounds
        found.update(map(tuple, connection.execute(select(events.c.source, events.c.name).where(*within))))
    return found


def _shown(row: Any, stored: _Stored | None) -> HookEchoRow:
    return HookEchoRow(
        hour=_hour(row.hour),
        source=row.source,
        mode=row.mode,
        name=row.name,
        **_by_outcome(row._mapping),
        stored=None if stored is None or row.name == OTHERS else stored[row.source, row.name],
    )


def _hour(hour: int) -> Time:
    return as_time(hour * HOUR_MICROS)


def _by_outcome(counts: Mapping[Any, Any]) -> dict[str, int]:
    return {outcome.value: int(counts.get(outcome.value) or 0) for outcome in EchoOutcome}
