"""What the books say of devices and of pauses, against plain references, on both databases."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from msgspec import structs
from sqlalchemy import Connection

from ingest.event import Event
from storage.books import devices, pauses
from storage.books.days import usual
from storage.books.posting import Posting
from storage.engine import Database
from storage.retention import Retention
from storage.rows import to_micros
from storage.store import SqlStore
from storage.transactions import transaction
from tests.contract.test_migrations import downgrade_to, upgrade_to
from tests.support.records import an_event
from tests.support.stored import rows, run

MIDNIGHT = datetime(2026, 7, 28, tzinfo=UTC)
DEVICES = (
    f"SELECT product, device, source, position, first_at, last_at, heard_at, firmware, day, today, {usual('devices')}"  # noqa: S608 - an expression of ours
    " FROM devices ORDER BY product, device"
)
PRODUCTS = f"SELECT product, devices, first_at, last_at, day, today, {usual('products')} FROM products ORDER BY product"  # noqa: S608 - an expression of ours
PAUSES = "SELECT source, day, longest, last_at FROM pauses ORDER BY source, day"
FIRMWARE = (None, "91", "92", "5.0-rc1", "ä", "", "a\0b", 'a"b', "a\\b", "\ud800", "\U0001f600", "x" * 64, "x" * 65)


@transaction
def post_both(connection: Connection, after: int, end: int) -> None:
    """Post one step."""
    devices.post(connection, after, end)
    pauses.post(connection, after, end)


def random_events(random: Random, count: int) -> list[Event]:
    """Events of some devices around three midnights and a later one, committed not quite in the order received."""
    events, at = list[Event](), MIDNIGHT - timedelta(hours=2)
    for number in range(count):
        at += timedelta(minutes=random.choice((0, 1, 15))) + timedelta(days=9 if number == count * 3 // 4 else 0)
        firmware = random.choice(FIRMWARE)
        event = an_event(
            random.choice(("temperature", "spark/status", "spark", "Spark/x")),
            device=random.choice((None, "a", "b", "c", "ü")),
            data=b"%d" % number,
            received_at=at - timedelta(minutes=random.choice((0, 0, 0, 1, 90, 2000))),
            source=random.choice(("fleet", "other")),
            attributes={"q": ',"fw_version":"7"', 'q"fw_version': "8"}
            | ({} if firmware is None else {"fw_version": firmware}),
        )
        events.append(structs.replace(event, product=random.choice(("tracker", "boron"))))
    return events


def day_of(event: Event) -> int:
    return (event.received_at - datetime(1970, 1, 1, tzinfo=UTC)).days


def kept_firmware(event: Event) -> str | None:
    """The firmware that an event tells of, where JSON writes it as it is."""
    firmware = event.attributes.get("fw_version")
    plain = firmware is not None and json.dumps(firmware, ensure_ascii=False) == f'"{firmware}"'
    is_text = firmware is not None and firmware == firmware.encode(errors="replace").decode()
    return firmware if plain and is_text and 0 < len(firmware or "") <= 64 else None


def device_rows(events: Sequence[Event]) -> Iterator[tuple[Any, ...]]:
    """What `devices` should say of events in order of commit."""
    for key in sorted({(event.product, event.device) for event in events if event.device is not None}):
        own = [(at, event) for at, event in enumerate(events, 1) if (event.product, event.device) == key]
        times = [to_micros(event.received_at) for _, event in own]
        heard = [to_micros(event.received_at) for _, event in own if not event.name.startswith("spark/")]
        firmware = [told for _, event in own if (told := kept_firmware(event)) is not None]
        yield (
            *(*key, own[-1][1].source, own[-1][0], min(times), max(times), max(heard, default=0)),
            *(firmware[-1] if firmware else None, *by_day([event for _, event in own])),
        )


def by_day(events: Sequence[Event]) -> tuple[int, int, float | None]:
    """The last day, its events, and the mean of the days before, each of which weighs 7/8 of the next one."""
    counts = [day_of(event) for event in events]
    day, weights = max(counts), [(7 / 8) ** back for back in range(max(counts) - min(counts))]
    mean = sum(counts.count(day - 1 - back) * weight for back, weight in enumerate(weights)) / (sum(weights) or 1)
    return day, counts.count(day), mean if weights else None


def product_rows(events: Sequence[Event]) -> Iterator[tuple[Any, ...]]:
    """What `products` should say of events in order of commit."""
    for product in sorted({event.product for event in events if event.device is not None}):
        own = [event for event in events if event.product == product and event.device is not None]
        times = [to_micros(event.received_at) for event in own]
        yield product, len({event.device for event in own}), min(times), max(times), *by_day(own)


def pause_rows(events: Sequence[Event]) -> Iterator[tuple[Any, ...]]:
    """What `pauses` should say of events in order of commit."""
    for source in ("fleet", "other"):
        own = [event for event in events if event.source == source and not event.name.startswith("spark/")]
        heard, longest, last = 0, dict[int, int](), dict[int, int]()
        for event in own:
            at, day = to_micros(event.received_at), day_of(event)
            longest[day] = max(longest.get(day, 0), at - heard if heard else 0)
            heard, last[day] = max(heard, at), max(last.get(day, 0), at)
        yield from ((source, day, longest[day], last[day]) for day in sorted(last) if day > max(last) - 8)


async def post_in_steps(database: Database, cuts: Sequence[int]) -> None:
    """Begin the books anew, and post from each cut to the next."""
    for table in ("devices", "products", "pauses"):
        await run(database, f"DELETE FROM {table}")  # noqa: S608 - our names
    for after, end in pairwise(cuts):
        await database.write(post_both, after, end)


@pytest.mark.parametrize("seed", range(4))
async def test_any_cut_into_steps_comes_to_the_same(database: Database, seed: int) -> None:
    """Midnights, events committed late, without a device or of the vendor's own: the reference says what is kept."""
    random = Random(seed)
    events = random_events(random, 250)
    await SqlStore(database, lambda: MIDNIGHT).commit(events)
    cuttings = [[0, 250], list(range(251)), *([0, *sorted(random.choices(range(251), k=9)), 250] for _ in range(4))]
    for cuts in cuttings:
        await post_in_steps(database, cuts)
        await compare(database, DEVICES, list(device_rows(events)))
        await compare(database, PRODUCTS, list(product_rows(events)))
        assert await rows(database, PAUSES) == list(pause_rows(events))


async def compare(database: Database, query: str, expected: Sequence[tuple[Any, ...]]) -> None:
    """Find the rows, whose last column is a fraction."""
    found = await rows(database, query)
    assert [row[:-1] for row in found] == [row[:-1] for row in expected]
    assert [row[-1] for row in found] == [pytest.approx(row[-1]) for row in expected]


async def test_a_migration_adds_the_products_of_devices_up(database: Database) -> None:
    """Where devices were posted before products were, these are what the reference says too."""
    events = random_events(Random(1), 250)
    await SqlStore(database, lambda: MIDNIGHT).commit(events)
    await post_in_steps(database, [0, 250])
    await database.alter(downgrade_to, "0011")
    await database.alter(upgrade_to, "0012")
    await compare(database, PRODUCTS, list(product_rows(events)))


async def test_devices_are_forgotten_with_their_last_event(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Round by round retention looks at some devices, and forgets those of which nothing is stored any more."""
    monkeypatch.setattr(devices, "_SWEPT_DEVICES", 3)
    old, young = MIDNIGHT - timedelta(days=31), MIDNIGHT - timedelta(days=29)
    events = [an_event(device=f"d{number}", received_at=young if number % 3 else old) for number in range(8)]
    await SqlStore(database, lambda: MIDNIGHT).commit(events)
    await Posting(database).post_all()
    retention = Retention(database, timedelta(days=30), [], lambda: MIDNIGHT)
    left = []
    for _ in range(4):
        await retention.purge()
        left.append([device[1:] for (device,) in await rows(database, "SELECT device FROM devices ORDER BY device")])
    assert ["".join(found) for found in left] == ["1234567", "124567", "12457", "12457"]
    assert await rows(database, "SELECT devices FROM products") == [(5,)]
