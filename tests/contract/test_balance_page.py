"""The balance and the comparison as they are read: from received to delivered, and what did not come."""

from __future__ import annotations

from datetime import timedelta

import pytest

from ingest.deliveries import Parked
from ingest.event import Cause, Origin
from ingest.sequences import LossRange, LossState
from storage import dead_letters
from storage.books.ways import ComparedSource, Way
from storage.coverage import SqlCoverage
from storage.cursors import SqlCursors
from storage.engine import Database
from storage.queries.balance import HandlerBalance, SourceBalance, balance
from storage.queries.comparison import ComparisonFilter, ComparisonRow, comparison_page
from storage.queries.page import Page, PageSpan
from storage.retention import Retention
from storage.sequences import AUDITOR, Followed
from storage.store import SqlStore
from tests.support.compared import GRACE, SSE, START, WEBHOOK, Arrived, Scene
from tests.support.records import NOW, a_reject, an_ignored, numbered

HOUR = int(START.timestamp()) // 3600
GRACES = {"fleet": float(GRACE)}


async def page(scene: Scene, wanted: ComparisonFilter, span: PageSpan) -> Page[ComparisonRow]:
    """A page of the comparison."""
    return await scene.database.read(comparison_page, wanted, span, GRACES)


async def compared(scene: Scene) -> list[ComparisonRow]:
    """All rows of the comparison."""
    return list((await page(scene, ComparisonFilter(), PageSpan())).rows)


async def test_what_a_way_did_not_bring_was_lost_by_it(database: Database) -> None:
    """Also where it brought nothing in that hour; what all brought was missed by none."""
    scene = Scene(database)
    await scene.compare(0)
    await scene.commit(Arrived(1, WEBHOOK, 1), Arrived(1, SSE, 2), Arrived(2, WEBHOOK, 3))
    await scene.commit(Arrived(3, SSE, 3601))
    await scene.compare(9000)

    shown = [(row.id - HOUR, row.modes, row.events, row.missed) for row in await compared(scene)]
    assert shown == [
        (0, "webhook", 1, {"sse": "lost"}),
        (0, "webhook+sse", 1, {}),
        (1, "sse", 1, {"webhook": "lost"}),
        (1, "webhook+sse", 0, {}),
    ]


async def test_what_a_slow_way_has_not_brought_is_late(database: Database) -> None:
    """While its p99 of that hour is beyond the grace; the quantiles are those of arrivals, however late."""
    scene = Scene(database)
    await scene.compare(0)
    await scene.commit(*(Arrived(number, WEBHOOK, 0.5) for number in range(10)))
    await scene.compare(GRACE + 10)
    (row, full) = await compared(scene)
    assert (row.missed, full.events, full.missed) == ({"sse": "lost"}, 0, {})

    await scene.commit(*(Arrived(number, SSE, 5400) for number in range(5)))
    await scene.compare(5500)
    (row, _) = await compared(scene)
    assert (row.hour, row.events, row.missed) == ("2026-07-28T10:00:00.000Z", 10, {"sse": "late"})
    assert row.transit["webhook"].p99 == pytest.approx(0.5, rel=0.1)
    assert row.transit["sse"].p50 == pytest.approx(5400, rel=0.1)


async def test_a_way_of_another_source_is_judged_by_its_own_transit(database: Database) -> None:
    """A way `label:mode` is late where that source's arrivals are."""
    backup = Way("backup", "webhook")
    scene = Scene(database, ComparedSource("fleet", GRACE * 1_000_000, (WEBHOOK, backup)))
    await scene.compare(0)
    await scene.commit(Arrived(1, WEBHOOK, 1), Arrived(2, WEBHOOK, 1), Arrived(2, backup, 4000))
    await scene.compare(5000)

    (row, _) = await compared(scene)
    assert (row.modes, row.events, row.missed) == ("webhook", 2, {"backup:webhook": "late"})


async def test_the_comparison_is_paged_by_whole_hours(database: Database) -> None:
    """However few rows are asked for; filters leave what they name."""
    scene = Scene(database)
    await scene.compare(0)
    for hours in range(4):
        at = hours * 3600 + 1
        await scene.commit(Arrived(hours, WEBHOOK, at), Arrived(10 + hours, SSE, at))
    await scene.compare(99_999)

    def hours_of(found: Page[ComparisonRow]) -> list[int]:
        return sorted({row.id - HOUR for row in found.rows})

    first = await page(scene, ComparisonFilter(), PageSpan(1))
    assert (hours_of(first), len(first.rows), first.next) == ([0], 3, HOUR)
    second = await page(scene, ComparisonFilter(), PageSpan(6, after=HOUR))
    assert (hours_of(second), len(second.rows), second.next) == ([1, 2], 6, HOUR + 2)
    third = await page(scene, ComparisonFilter(), PageSpan(6, after=HOUR + 2))
    assert (hours_of(third), third.next, third.last) == ([3], None, HOUR + 3)
    newest = await page(scene, ComparisonFilter(), PageSpan(3, descending=True))
    assert (hours_of(newest), newest.next) == ([3], HOUR + 3)
    assert hours_of(await page(scene, ComparisonFilter(), PageSpan(100, before=HOUR + 2))) == [0, 1]

    some = ComparisonFilter(since=START + timedelta(minutes=90), until=START + timedelta(hours=3))
    assert hours_of(await page(scene, some, PageSpan())) == [1, 2]
    assert (await page(scene, ComparisonFilter("other"), PageSpan())).rows == []


async def test_the_balance_leads_from_received_to_what_is_here(database: Database) -> None:
    """Each arrival left at one step, or is here."""
    store = SqlStore(database, lambda: NOW)
    await store.commit([*numbered(10), *numbered(3), a_reject(), a_reject(), an_ignored()])
    later = NOW + timedelta(days=2)
    await SqlStore(database, lambda: later).commit(numbered(2, 20, received_at=later))
    assert await Retention(database, timedelta(days=1), [], lambda: later).purge() == 10

    (source,) = (await database.read(balance)).sources
    assert source == SourceBalance(
        source="fleet",
        mode="webhook",
        received=18,
        rejected=2,
        ignored=1,
        duplicate=3,
        duplicate_kinds=source.duplicate_kinds,
        stored=12,
        expired=10,
        here=2,
    )
    assert (source.duplicate_kinds["redelivery"], sum(source.duplicate_kinds.values())) == (3, 3)


async def test_the_balance_leads_on_to_what_became_of_it_at_each_handler(database: Database) -> None:
    """All that a handler passed has become something, and the rest waits for it."""
    await SqlStore(database, lambda: NOW).commit(numbered(20))
    cursor = await SqlCursors(database).acquire("alerts", holder="one", begin="beginning")
    assert cursor is not None
    rows = [Parked(at, "dev1", 1, NOW, due, "boom") for at, due in ((1, None), (2, None), (3, None), (4, NOW))]
    await cursor.advance(15, rows, unmatched=5)
    await database.write(dead_letters.remove, "alerts", dead_letters.Chosen(positions=(3,)))
    await SqlCursors(database).acquire(AUDITOR, holder="one", begin="beginning")

    (handler,) = (await database.read(balance)).handlers
    assert handler == HandlerBalance(
        handler="alerts",
        passed=15,
        unmatched=5,
        delivered=6,
        dead=2,
        parked=1,
        skipped=0,
        deleted=1,
        waiting=5,
    )


async def test_the_balance_shows_what_did_not_come(database: Database) -> None:
    """Numbers by their state, gaps and what they may have cost, and which ways brought what, by source."""
    scene = Scene(database)
    await scene.compare(0)
    await scene.commit(Arrived(1, WEBHOOK, 1), Arrived(1, SSE, 1), Arrived(2, WEBHOOK, 3700))
    await scene.compare(9999)
    coverage, origin = SqlCoverage(database), Origin("tracker", "fleet", "sse")
    await coverage.end((await coverage.open(origin, 0, ago=1000)).interval, Cause.IDLE, ago=900)
    await coverage.open(origin, 0, ago=800)
    cursor = await SqlCursors(database).acquire(AUDITOR, holder="one", begin="beginning")
    assert cursor is not None
    ranges = [
        LossRange(1, "fleet", "tracker", "dev1", 1, 5, LossState.MISSING, 0, 0),
        LossRange(6, "fleet", "tracker", "dev1", 7, 9, LossState.LOST, 0, 0),
        LossRange(9, "quiet", "tracker", "dev2", 7, 7, LossState.RECOVERED, 0, 0),
    ]
    await cursor.advance(2, [], followed=Followed(ranges=ranges))

    fleet, quiet = (await database.read(balance, {"fleet": 4})).losses
    assert (fleet.missing, fleet.lost, fleet.recovered, fleet.ambiguous) == (5, 3, 0, 4)
    assert fleet.gaps == 1
    assert fleet.gap_seconds == pytest.approx(100, abs=1)
    assert fleet.seen_by == {"webhook": 1, "webhook+sse": 1}
    assert (quiet.source, quiet.recovered, quiet.ambiguous, quiet.seen_by) == ("quiet", 1, 0, {})
    assert (await database.read(balance)).losses[0].ambiguous is None
