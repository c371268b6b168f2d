"""A device as it is shown: what was heard of it, what is missing of it, and whether it is silent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from msgspec import Struct
from sqlalchemy import BigInteger, Float, Select, Subquery, and_, cast, func, literal_column, select

from ingest.times import Time
from storage.books.days import usual
from storage.books.sql import DAY
from storage.queries.times import as_time, as_time_or_none
from storage.tables import NOT_RECOVERED, losses, sequences

QUIET_MICROSECONDS = 600_000_000  # at least; and
QUIET_TIMES = 5  # so many times as long as usual

USUAL = literal_column(usual("devices"), Float).label("usual")


class Silences(NamedTuple):
    """When a device counts as silent: by source, microseconds since it was heard; None: never. `now` is likewise."""

    now: int
    silent_after: Mapping[str, int | None]

    def heard_before(self, source: str) -> int | None:
        """Return before when a device of a source was heard last that is silent."""
        after = self.silent_after.get(source)
        return None if after is None else self.now - after


class Unconfirmed(Struct, frozen=True, kw_only=True):
    """The last number that came of a device that fell silent; what it sent behind it would not be missed."""

    number: int
    since: Time


class DeviceRow(Struct, frozen=True, kw_only=True):
    """A device. `last_heard` is about events of its own, not the vendor's `spark/…` about it; `position` of any.

    `events_usually` is the mean of the days before its last one; null on its first. `missing` counts numbers that did
    not come, lost ones too. `unconfirmed`: it has a counter and is silent, or quiet where its source has no
    `silent_after`; whether it sent anything behind that number cannot be known. `silent`: since when.
    """

    product: str
    device: str
    source: str
    first_event: Time
    last_event: Time
    last_heard: Time | None
    position: int
    events_today: int
    events_usually: float | None
    firmware: str | None
    last_number: int | None
    missing: int
    unconfirmed: Unconfirmed | None
    silent: Time | None


EXAMPLE = DeviceRow(
    product="tracker",
    device="e00fce682e79a004f1e69a2b",
    source="fleet",
    first_event="2026-05-02T08:00:00.000Z",
    last_event="2026-07-28T16:53:05.702Z",
    last_heard="2026-07-28T14:21:44.310Z",
    position=1042,
    events_today=61,
    events_usually=96.2,
    firmware="91",
    last_number=7305,
    missing=0,
    unconfirmed=Unconfirmed(number=7305, since="2026-07-28T14:21:44.310Z"),
    silent="2026-07-28T14:21:44.310Z",
)


def in_full(page: Subquery) -> Select[Any]:
    """Return the rows of a page of `devices` with what is known of their numbers, in no order."""
    of_device = (losses.c.product == page.c.product, losses.c.device == page.c.device)
    missing = select(func.sum(losses.c.last - losses.c.first + 1)).where(*of_device, literal_column(NOT_RECOVERED))
    counter = and_(sequences.c.product == page.c.product, sequences.c.device == page.c.device)
    return select(
        page,
        sequences.c.number,
        sequences.c.at.label("numbered_at"),
        cast(func.coalesce(missing.correlate(page).scalar_subquery(), 0), BigInteger).label("missing"),
    ).join_from(page, sequences, counter, isouter=True)


def device_row(row: Any, silences: Silences) -> DeviceRow:
    """Return the device of a row of `in_full`."""
    usually = usual_of(row, silences.now)
    heard_before = silences.heard_before(row.source)
    silent = heard_before is not None and 0 < row.heard_at < heard_before
    quiet = silent if heard_before is not None else _is_quiet(row, usually, silences.now)
    return DeviceRow(
        product=row.product,
        device=row.device,
        source=row.source,
        first_event=as_time(row.first_at),
        last_event=as_time(row.last_at),
        last_heard=as_time_or_none(row.heard_at or None),
        position=row.position,
        events_today=row.today if row.day == silences.now // DAY else 0,
        events_usually=None if usually is None else round(usually, 1),
        firmware=row.firmware,
        last_number=row.number,
        missing=row.missing,
        unconfirmed=_unconfirmed(row) if quiet else None,
        silent=as_time(row.heard_at) if silent else None,
    )


def usual_of(row: Any, now: int) -> float | None:
    """Return a device's usual number of events a day; that of its first day where that is over and no other came."""
    if row.usual is not None:
        return float(row.usual)
    return float(row.today) if row.day < now // DAY else None


def _unconfirmed(row: Any) -> Unconfirmed | None:
    return None if row.number is None else Unconfirmed(number=row.number, since=as_time(row.numbered_at))


def _is_quiet(row: Any, usually: float | None, now: int) -> bool:
    """Return whether a device is quiet for much longer than it usually is between two events."""
    between = DAY / usually if usually else 0
    return bool(now - (row.heard_at or row.first_at) > max(QUIET_MICROSECONDS, QUIET_TIMES * between))
