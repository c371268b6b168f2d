"""Silences while they last, and their gauges, by a clock of the test's own; on both databases."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from prometheus_client import CollectorRegistry

from ingest.event import Event
from ingest.leases import Lease
from ingest.metrics import Metrics
from storage.books.posting import Posting
from storage.engine import Database
from storage.queries.device_rows import Silences
from storage.queries.silences import silences_page
from storage.rows import to_micros
from storage.silence_gauges import SilenceGauges
from storage.store import SqlStore
from storage.store_gauges import StoreGauges
from tests.support.heard_devices import HOUR, a_device, keep
from tests.support.records import NOW, an_event

AFTER = {"fleet": 2 * HOUR, "other": None}
MINUTE = timedelta(minutes=1)


def by(at: datetime) -> Silences:
    """What counts as silent then."""
    return Silences(to_micros(at), AFTER)


def heard(at: datetime, device: str | None = "d1", name: str = "temperature", source: str = "fleet") -> Event:
    """An event that was received then."""
    return an_event(name, device=device, received_at=at, published_at=at, source=source)


async def post(database: Database, *events: Event) -> None:
    """Commit events, and post them."""
    await SqlStore(database, lambda: NOW).commit(events)
    await Posting(database).post_all()


async def silences(database: Database, at: datetime) -> list[tuple[str, str | None, str, float | None]]:
    """The silences that last then."""
    page = await database.read(silences_page, by(at), 100)
    return [(row.source, row.device, row.since[11:16], row.usual) for row in page.rows]


async def test_a_device_is_silent_until_it_sends_something_of_its_own(database: Database) -> None:
    """It begins `silent_after` behind its last event; the vendor's own events about it neither delay nor end it."""
    begun = NOW.replace(hour=1, minute=0, second=0, microsecond=0)
    quiet = begun + timedelta(hours=2)
    await post(database, heard(begun), heard(begun + MINUTE, name="spark/status"), heard(begun, "d2", source="other"))
    assert await silences(database, quiet) == []
    assert await silences(database, quiet + MINUTE) == [("fleet", "d1", "01:00", None)]
    await post(database, heard(quiet + MINUTE, name="spark/status"))
    assert await silences(database, quiet + 2 * MINUTE) == [("fleet", "d1", "01:00", None)]
    await post(database, heard(quiet + 3 * MINUTE))
    assert await silences(database, quiet + 4 * MINUTE) == []


async def test_a_source_is_silent_when_it_pauses_five_times_longer_than_ever(database: Database) -> None:
    """And for more than ten minutes; whatever device sends, and in whatever mode, its next event ends that."""
    begun = NOW.replace(hour=1, minute=0, second=0, microsecond=0)
    last = begun + 4 * MINUTE
    await post(database, heard(begun, None), heard(begun + MINUTE, None), heard(last, None))
    assert await silences(database, last + 15 * MINUTE) == []
    later = last + 15 * MINUTE + timedelta(seconds=1)
    assert await silences(database, later) == [("fleet", None, "01:04", 180.0)]
    await post(database, heard(later, None, name="spark/status"))
    assert await silences(database, later + MINUTE) == [("fleet", None, "01:04", 180.0)]
    await post(database, heard(later + MINUTE, "d9"))
    assert await silences(database, later + 50 * MINUTE) == []


async def test_ten_minutes_are_never_a_silence(database: Database) -> None:
    """However busy a source was. One that sent a single event was never heard to pause: nothing can be told of it."""
    await post(database, heard(NOW), heard(NOW + timedelta(seconds=1)), heard(NOW, source="other"))
    assert await silences(database, NOW + 10 * MINUTE) == []
    assert [row[:2] for row in await silences(database, NOW + 11 * MINUTE)] == [("fleet", None)]


@pytest.mark.parametrize(("days", "is_silent"), [(6, False), (7, True)])
async def test_the_longest_pause_counts_for_a_week(database: Database, days: int, is_silent: bool) -> None:
    """A pause of nine hours excuses one of three, on that day and the six behind it."""
    begun = NOW.replace(hour=0, minute=0, second=0, microsecond=0)
    last = begun + timedelta(days=days, hours=1)
    hours = range(9, days * 24 + 2)
    await post(database, *(heard(begun + timedelta(hours=hour), None) for hour in (0, *hours)))
    found = await silences(database, last + timedelta(hours=6))
    assert found == ([("fleet", None, "01:00", 3600.0)] if is_silent else [])


async def test_silences_go_on_from_page_to_page(database: Database) -> None:
    """Sources are on the first page; devices follow, the longest silent first."""
    begun = NOW - timedelta(hours=5)
    await post(database, heard(begun, None), heard(begun + MINUTE, None))
    await keep(database, [a_device(f"d{number}", number) for number in range(1, 6)])
    first = await database.read(silences_page, by(NOW), 2)
    assert [row.device for row in first.rows] == [None, "d5", "d4"]
    second = await database.read(silences_page, by(NOW), 2, first.next)
    assert ([row.device for row in second.rows], second.next) == (["d3"], None)


async def test_one_process_shows_what_is_silent(database: Database) -> None:
    """Gauges are there at 0 for each configured source, count while the lease is held, and are absent without it."""
    metrics, lease = Metrics(CollectorRegistry()), Lease(held=True)
    now = [NOW]
    silence = SilenceGauges(database, metrics, ["fleet", "other"], lambda: by(now[0]))
    gauges = StoreGauges(database, None, metrics, lease=lease, silence=silence)

    def shown() -> list[float | None]:
        return [
            metrics.registry.get_sample_value(f"headrace_{name}", {"source": source})
            for name in ("silent_devices", "source_silent")
            for source in ("fleet", "other")
        ]

    assert shown() == [0, 0, 0, 0]
    await keep(database, [a_device("d1", 1), a_device("d2", 3), a_device("d3", 3, source="other")])
    await post(database, heard(NOW - MINUTE, None, source="other"), heard(NOW, None, source="other"))
    await gauges.measure()
    assert shown() == [1, 0, 0, 0]
    now[0] += timedelta(hours=2)
    await gauges.measure()
    assert shown() == [2, 0, 0, 1]
    lease.change(held=False)
    await gauges.measure()
    assert shown() == [None] * 4
