"""Silences, while they last: sources that are quiet for much longer than they were, and devices that stopped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from msgspec import Struct
from sqlalchemy import Connection, func, select

from ingest.times import Time
from storage.queries.device_groups import silent_counts
from storage.queries.device_rows import QUIET_MICROSECONDS, QUIET_TIMES, DeviceRow, Silences
from storage.queries.devices import Cursor, DeviceFilter, DeviceSpan, devices_page
from storage.queries.times import as_time
from storage.tables import pauses

_LONGEST_OF_DAYS = 7
_SECONDS_A_DAY = 86_400


class SilenceRow(Struct, frozen=True, kw_only=True):
    """A silence that lasts. `device` and `product` are null where a whole source is silent.

    `usual`, in seconds: of a device the mean time between two events, null where that is not known yet; of a source
    its longest pause of the seven days before. It is no loss.
    """

    source: str
    product: str | None
    device: str | None
    since: Time
    usual: float | None


EXAMPLE = SilenceRow(
    source="fleet",
    product="tracker",
    device="e00fce682e79a004f1e69a2b",
    since="2026-07-28T14:21:44.310Z",
    usual=898.1,
)


class SilencePage(NamedTuple):
    """Silent sources, on the first page, and silent devices, the longest silent first. `next` is where to go on."""

    rows: Sequence[SilenceRow]
    next: Cursor | None


class Silent(NamedTuple):
    """How many devices of each source are silent, and which sources are."""

    devices: dict[str, int]
    sources: list[str]


def silences_page(connection: Connection, silences: Silences, limit: int, after: Cursor | None = None) -> SilencePage:
    """Return the silences that last: of sources all, of devices at most `limit` behind `after`."""
    sources = silent_sources(connection, silences) if after is None else []
    page = devices_page(connection, DeviceFilter(silent=True), DeviceSpan(limit, "heard", after=after), silences)
    return SilencePage([*sources, *map(_of_device, page.rows)], page.next)


def silent_sources(connection: Connection, silences: Silences) -> list[SilenceRow]:
    """Return the configured sources that are quiet for more than ten minutes and five times their longest pause.

    The longest of the week before their last event; where there was none, it cannot be told.
    """
    own = pauses.alias()
    last_day = select(func.max(own.c.day)).where(own.c.source == pauses.c.source).scalar_subquery()
    query = (
        select(pauses.c.source, func.max(pauses.c.longest), func.max(pauses.c.last_at))
        .where(pauses.c.source.in_(silences.silent_after), pauses.c.day > last_day - _LONGEST_OF_DAYS)
        .group_by(pauses.c.source)
        .order_by(pauses.c.source)
    )
    return [_of_source(row) for row in connection.execute(query) if _is_silent(*row[1:], silences.now)]


def count_silent(connection: Connection, silences: Silences) -> Silent:
    """Return what the gauges show."""
    counts = dict.fromkeys(silences.silent_after, 0)
    for group, count in silent_counts(connection, silences).items():
        if group.source in counts:
            counts[group.source] += count
    return Silent(counts, [row.source for row in silent_sources(connection, silences)])


def _is_silent(longest: int, last_at: int, now: int) -> bool:
    return longest > 0 and now - last_at > max(QUIET_MICROSECONDS, QUIET_TIMES * longest)


def _of_source(row: Any) -> SilenceRow:
    source, longest, last_at = row
    return SilenceRow(source=source, product=None, device=None, since=as_time(last_at), usual=longest / 1_000_000)


def _of_device(row: DeviceRow) -> SilenceRow:
    usual = round(_SECONDS_A_DAY / row.events_usually, 1) if row.events_usually else None
    return SilenceRow(
        source=row.source, product=row.product, device=row.device, since=row.last_heard or row.last_event, usual=usual
    )
