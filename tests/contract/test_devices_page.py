"""Pages of devices, and one device, on both databases."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from random import Random
from typing import Any

import pytest
from msgspec import structs

from storage.books.posting import Posting
from storage.books.sql import DAY
from storage.engine import Database
from storage.queries import devices as devices_file
from storage.queries.device_rows import DeviceRow, Silences, Unconfirmed
from storage.queries.devices import DeviceFilter, DeviceSpan, Order, device_by_id, devices_page
from storage.queries.products import product_rows
from storage.queries.times import as_time
from storage.store import SqlStore
from tests.support.heard_devices import HOUR, NOW_MICROS, a_counter, a_device, a_loss, keep
from tests.support.records import NOW, an_event

SILENCES = Silences(NOW_MICROS, {"fleet": 2 * HOUR, "slow": 20 * HOUR, "never": None})
PAGE = 7


def some_devices(random: Random) -> list[dict[str, Any]]:
    """Devices of some products and sources, many of which were heard at the same time, and some never."""
    return [
        a_device(
            f"d{number:02x}",
            random.choice((None, 0, 1, 1, 3, 3, 25)),
            product=product,
            source=random.choice(("fleet", "slow", "never", "gone")),
        )
        for product in ("boron", "tracker")
        for number in range(0, 60, random.choice((1, 2)))
    ]


def is_silent(row: dict[str, Any]) -> bool:
    after = SILENCES.silent_after.get(row["source"])
    return after is not None and 0 < row["heard_at"] < NOW_MICROS - after


def expected(
    rows: Sequence[dict[str, Any]],
    missing: set[tuple[str, str]],
    wanted: DeviceFilter,
    order: Order,
    *,
    descending: bool,
) -> list[tuple[str, str]]:
    """The keys of all pages."""
    found = [
        row
        for row in rows
        if (wanted.product in (None, row["product"]))
        and (is_silent(row) or not wanted.silent)
        and ((row["product"], row["device"]) in missing or not wanted.missing)
    ]
    names = ("product", "device") if order == "device" else ("heard_at", "product", "source", "device")
    found.sort(key=lambda row: tuple(row[name] for name in names), reverse=descending)
    return [(row["product"], row["device"]) for row in found]


async def all_pages(
    database: Database, wanted: DeviceFilter, order: Order, *, descending: bool
) -> AsyncIterator[Sequence[DeviceRow]]:
    """The rows of each page, to the last one."""
    after = None
    while True:
        page = await database.read(devices_page, wanted, DeviceSpan(PAGE, order, descending, after), SILENCES)
        yield page.rows
        if page.next is None:
            return
        after = page.next


@pytest.mark.parametrize("few", [3, 2000])
async def test_pages_follow_one_another_whatever_is_asked_for(
    database: Database, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By each filter and order, both ways, pages have each device once and in order; whichever way they are found."""
    monkeypatch.setattr(devices_file, "_FEW", few)
    random = Random(7)
    rows = some_devices(random)
    missing = {(row["product"], row["device"]) for row in random.sample(rows, 20)}
    others = {(row["product"], row["device"]) for row in rows} - missing
    lost = [
        a_loss(number, device, "recovered" if key in others else random.choice(("missing", "lost")), product=product)
        for number, key in enumerate(sorted(missing | others), 1)
        for product, device in [key]
    ]
    await keep(database, rows, lost)
    for product in (None, "tracker", "none"):
        for silent in (False, True):
            for without in (False, True):
                for order in ("device", "heard"):
                    for descending in (False, True):
                        wanted = DeviceFilter(product, silent, without)
                        keys = expected(rows, missing, wanted, order, descending=descending)
                        pages = [page async for page in all_pages(database, wanted, order, descending=descending)]
                        assert [(row.product, row.device) for page in pages for row in page] == keys, (wanted, order)
                        assert len(pages) == max(1, -(-len(keys) // PAGE))


async def test_a_device_tells_what_was_heard_and_what_is_missing(database: Database) -> None:
    """All that is known of a device is in its row: rates, firmware, numbers, and since when it is silent."""
    heard_at = NOW_MICROS - 3 * HOUR
    await keep(
        database,
        [a_device("d1", 3), a_device("d2", 1), a_device("d1", 30, product="boron", source="never")],
        [a_loss(1, "d1"), a_loss(2, "d1", "missing"), a_loss(3, "d1", "recovered"), a_loss(4, "d2")],
        [a_counter("d1", 41, heard_at)],
    )
    found = await database.read(device_by_id, "d1", SILENCES)
    since = as_time(heard_at)
    weights = sum((7 / 8) ** back for back in range(8))
    assert found == DeviceRow(
        product="tracker",
        device="d1",
        source="fleet",
        first_event=as_time(heard_at - 8 * DAY),
        last_event=since,
        last_heard=since,
        position=1,
        events_today=3,
        events_usually=round(96 / weights, 1),
        firmware="91",
        last_number=41,
        missing=4,
        unconfirmed=Unconfirmed(number=41, since=since),
        silent=since,
    )
    other = await database.read(device_by_id, "d1", SILENCES, "boron")
    assert other is not None
    assert (other.product, other.silent, other.events_today, other.last_number) == ("boron", None, 0, None)
    assert await database.read(device_by_id, "d3", SILENCES) is None
    assert await database.read(device_by_id, "d2", SILENCES, "boron") is None


@pytest.mark.parametrize(
    ("source", "heard_ago", "is_unconfirmed"),
    [("fleet", 1.9, False), ("fleet", 2.1, True), ("never", 1.0, False), ("never", 9.0, True), ("gone", 9.0, True)],
)
async def test_the_last_number_is_unconfirmed_of_a_device_that_fell_silent(
    database: Database, source: str, heard_ago: float, is_unconfirmed: bool
) -> None:
    """By `silent_after`; without it, of one that is quiet for five times as long as it usually is."""
    at = NOW_MICROS - round(heard_ago * HOUR)
    await keep(database, [a_device("d1", heard_ago, source=source)], counters=[a_counter("d1", 41, at)])
    found = await database.read(device_by_id, "d1", SILENCES)
    assert found is not None
    assert found.unconfirmed == (Unconfirmed(number=41, since=as_time(at)) if is_unconfirmed else None)


async def test_a_new_device_has_no_usual_rate_until_its_first_day_is_over(database: Database) -> None:
    """On its first day nothing is usual; later the first day is, until there is another one."""
    today = {"first_at": NOW_MICROS - HOUR, "before": 0.0}
    yesterday = {"first_at": NOW_MICROS - 31 * HOUR, "before": 0.0}
    await keep(database, [a_device("d1", 1, **today), a_device("d2", 30, **yesterday)])
    rows = (await database.read(devices_page, DeviceFilter(), DeviceSpan(), SILENCES)).rows
    assert [(row.events_today, row.events_usually) for row in rows] == [(3, None), (0, 3.0)]


async def test_products_count_their_devices(database: Database) -> None:
    """A product's row says how many devices it has, and how many are silent; how much they send, and when last."""
    today, before = [an_event(device=f"d{at % 3}", data=b"%d" % at) for at in range(4)], NOW - timedelta(days=1)
    yesterday = [an_event(device="d3", data=b"%d" % at, received_at=before, source="slow") for at in range(6)]
    other = structs.replace(an_event(device="d1", name="spark/status", received_at=before), product="boron")
    await SqlStore(database, lambda: NOW).commit([*yesterday, *today, other])
    await Posting(database).post_all()

    boron, tracker = await database.read(product_rows, SILENCES)

    assert (boron.product, boron.devices, boron.silent) == ("boron", 1, 0)
    assert (boron.events_today, boron.events_usually) == (0, 1)
    assert (tracker.product, tracker.devices, tracker.silent) == ("tracker", 4, 1)
    assert (tracker.events_today, tracker.events_usually) == (4, 6)
    assert tracker.last_event == as_time(NOW_MICROS)
