"""Which ways brought which events, on both databases: what one way brought and another did not is counted once."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta

import pytest

from ingest.errors import StoreUnavailable
from storage.books import comparison, transits
from storage.books.comparison import Comparison
from storage.books.ways import ComparedSource, Way
from storage.engine import Database
from storage.retention import Retention
from tests.support.compared import COMPARED, FLEET, GRACE, PUBSUB, SSE, START, WEBHOOK, Arrived, Scene, reckoned
from tests.support.gated_database import GatedDatabase
from tests.support.stored import rows

HOUR = int(START.timestamp()) // 3600
BACKUP = Way("backup", "webhook")
TRANSITS = "SELECT hour, source, mode, bucket, events FROM transits ORDER BY hour, source, mode, bucket"


async def test_an_event_is_compared_when_its_grace_is_over(database: Database) -> None:
    """Both ways brought one event, each of them alone another; before the grace is over nothing is said."""
    scene = Scene(database)
    await scene.compare(0)
    await scene.commit(Arrived(1, WEBHOOK, 1), Arrived(1, SSE, 2), Arrived(2, WEBHOOK, 3), Arrived(3, SSE, 4))

    await scene.compare(GRACE)
    assert await scene.compared() == {}
    await scene.compare(GRACE + 1.5)
    assert await scene.compared() == {"webhook+sse": 1}
    await scene.compare(GRACE + 5)
    await scene.compare(GRACE + 6)
    assert await scene.compared() == {"webhook+sse": 1, "webhook": 1, "sse": 1}
    assert scene.counted == {("fleet", "webhook+sse"): 1, ("fleet", "webhook"): 1, ("fleet", "sse"): 1}


async def test_what_comes_after_the_grace_was_missed(database: Database) -> None:
    """A further arrival counts until the last instant of the grace, by what it says itself, whenever it is compared."""
    scene = Scene(database)
    await scene.compare(0)
    await scene.commit(Arrived(1, WEBHOOK, 0), Arrived(2, WEBHOOK, 0))
    await scene.commit(Arrived(1, SSE, GRACE), Arrived(2, SSE, GRACE + 0.001))

    await scene.compare(2 * GRACE)
    assert await scene.compared() == {"webhook+sse": 1, "webhook": 1}


async def test_a_dead_way_is_there_with_no_event(database: Database) -> None:
    """Which ways there were is told by the row of all of them, also where one brought nothing in an hour."""
    scene = Scene(database)
    await scene.compare(0)
    await scene.commit(Arrived(1, WEBHOOK, 1))
    await scene.compare(2 * GRACE)

    found = await rows(database, "SELECT hour, source, modes, events FROM comparisons ORDER BY modes")
    assert found == [(HOUR, "fleet", "webhook", 1), (HOUR, "fleet", "webhook+sse", 0)]


async def test_two_sources_of_a_product_are_ways_of_each_other(database: Database) -> None:
    """The ways of another source bear its label; the row is the source's that brought the event first."""
    fleet = ComparedSource("fleet", GRACE * 1_000_000, (WEBHOOK, BACKUP))
    backup = ComparedSource("backup", GRACE * 1_000_000, (BACKUP, WEBHOOK))
    scene = Scene(database, fleet, backup)
    await scene.compare(0)
    await scene.commit(Arrived(1, WEBHOOK, 1), Arrived(1, BACKUP, 2), Arrived(2, WEBHOOK, 3))
    await scene.commit(Arrived(3, BACKUP, 4), Arrived(3, WEBHOOK, 5), Arrived(4, Way("other", "webhook"), 6))

    await scene.compare(2 * GRACE)
    assert await rows(database, COMPARED) == [
        (HOUR, "backup", "webhook+fleet:webhook", 1),
        (HOUR, "fleet", "webhook", 1),
        (HOUR, "fleet", "webhook+backup:webhook", 1),
    ]


async def test_a_source_with_a_longer_grace_holds_up_only_what_is_behind_it(database: Database) -> None:
    """Events are compared in the order of commit, each by the grace of its own source."""
    slow = ComparedSource("slow", 24 * 3600 * 1_000_000, (Way("slow", "webhook"), Way("slow", "sse")))
    scene = Scene(database, FLEET, slow)
    await scene.compare(0)
    await scene.commit(Arrived(1, WEBHOOK, 1), Arrived(2, Way("slow", "sse"), 1), Arrived(3, WEBHOOK, 1))

    await scene.compare(2 * GRACE)
    assert await scene.compared() == {"webhook": 1}
    await scene.compare(25 * 3600)
    assert await scene.compared() == {"webhook": 2, "sse": 1}


async def test_an_event_of_the_future_holds_up_nothing(database: Database) -> None:
    """A server whose clock was a year ahead does not end all comparing."""
    scene = Scene(database)
    await scene.compare(0)
    await scene.commit(Arrived(1, WEBHOOK, 365 * 86400), Arrived(2, WEBHOOK, 2))
    await scene.compare(2 * GRACE)
    assert await scene.compared() == {"webhook": 2}


async def test_sources_with_one_way_cost_no_row(database: Database) -> None:
    """Where nothing is compared, nothing is written, and what was begun is forgotten."""
    scene = Scene(database)
    await scene.compare(0)
    await scene.commit(Arrived(1, Way("other", "webhook"), 1))
    await scene.compare(2 * GRACE)
    assert (await rows(database, COMPARED), await rows(database, TRANSITS)) == ([], [])

    await asyncio.wait_for(Comparison(database, (), scene.now, every_seconds=0.01).run(), 30)
    assert await rows(database, "SELECT handler FROM cursors") == []


async def test_it_begins_anew_where_other_ways_are_compared(database: Database) -> None:
    """Of events from before nobody knows which ways there were: they are not compared, and nothing is lost."""
    scene = Scene(database)
    await scene.commit(Arrived(1, WEBHOOK, 1), Arrived(1, SSE, 2))
    await scene.compare(2 * GRACE)
    assert (await scene.compared(), await rows(database, TRANSITS)) == ({}, [])

    await scene.commit(Arrived(2, WEBHOOK, 2 * GRACE))
    three = FLEET._replace(ways=(WEBHOOK, SSE, PUBSUB))
    await scene.another(database, three).post_all()
    await scene.commit(Arrived(3, WEBHOOK, 2 * GRACE + 1), Arrived(3, PUBSUB, 2 * GRACE + 1))
    scene.seconds = 4 * GRACE
    await scene.another(database, three).post_all()
    assert await scene.compared() == {"webhook+pubsub": 1}


async def test_what_retention_took_is_not_compared(database: Database) -> None:
    """Events that went before, with their further arrivals, are in no row, and the others are all there."""
    scene = Scene(database)
    await scene.compare(0)
    await scene.commit(Arrived(1, WEBHOOK, 1), Arrived(1, SSE, 2))
    await scene.commit(Arrived(2, WEBHOOK, 1000), Arrived(2, SSE, 1001))
    scene.seconds = 2000
    assert await Retention(database, timedelta(seconds=1500), [], scene.now).purge() == 1

    await scene.compare(2001)
    assert await scene.compared() == {"webhook+sse": 1}
    assert [row[2:3] + row[4:] for row in await rows(database, TRANSITS)] == [("sse", 1), ("webhook", 1)]


async def test_old_hours_go_with_retention(database: Database) -> None:
    """Rows of an hour that was over before, and no others."""
    scene = Scene(database)
    await scene.compare(0)
    for hours in (0, 1, 200, 201):
        await scene.commit(Arrived(hours, WEBHOOK, hours * 3600 + 1))
    await scene.compare(202 * 3600)
    scene.seconds = 202 * 3600
    await Retention(database, timedelta(hours=1, minutes=30), [], scene.now).purge()

    assert [row[0] - HOUR for row in await rows(database, COMPARED)] == [200, 201]
    assert [row[0] - HOUR for row in await rows(database, TRANSITS)] == [200, 201]


async def test_two_who_compare_at_once_post_each_event_once(
    database: Database, another: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each waits for the other's step and goes on behind it."""
    monkeypatch.setattr(comparison, "STEP_EVENTS", 7)
    monkeypatch.setattr(transits, "_STEP_ARRIVALS", 5)
    scene = Scene(database)
    await scene.compare(0)
    await scene.commit(*(Arrived(number, WEBHOOK, 1) for number in range(100)))
    await scene.commit(*(Arrived(number, SSE, 2) for number in range(0, 100, 2)))
    scene.seconds = 2 * GRACE

    await asyncio.gather(scene.comparison.post_all(), scene.another(another).post_all())
    assert await scene.compared() == {"webhook": 50, "webhook+sse": 50}
    assert scene.counted == {("fleet", "webhook"): 50, ("fleet", "webhook+sse"): 50}
    assert sum(row[-1] for row in await rows(database, TRANSITS)) == 150


async def test_a_store_that_is_away_between_two_steps_changes_nothing(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever goes on begins where the last step that was committed ended."""
    monkeypatch.setattr(comparison, "STEP_EVENTS", 7)
    gated = GatedDatabase(database)
    scene = Scene(gated)
    await scene.compare(0)
    await scene.commit(*(Arrived(number, WEBHOOK, 1) for number in range(30)))
    scene.seconds = 2 * GRACE
    scene.comparison._count = lambda *_: setattr(gated, "away", True)

    with pytest.raises(StoreUnavailable):
        await scene.comparison.post_all()
    gated.away = False
    assert await scene.compared() == {"webhook": 7}
    await scene.another(database).post_all()
    assert await scene.compared() == {"webhook": 30}


async def test_each_way_is_timed_by_its_first_arrival_however_late(database: Database) -> None:
    """By the hour of the event, which it was missed in, and not again where it is repeated."""
    scene = Scene(database)
    await scene.compare(0)
    await scene.commit(Arrived(1, WEBHOOK, 0.2), Arrived(1, WEBHOOK, 20))
    await scene.compare(2 * GRACE)
    await scene.commit(Arrived(1, SSE, 5400), Arrived(1, SSE, 5500))
    await scene.compare(6000)

    assert await rows(database, TRANSITS) == [
        (HOUR, "fleet", "sse", transits.bucket_of(5_400_000_000), 1),
        (HOUR, "fleet", "webhook", transits.bucket_of(200_000), 1),
    ]


@pytest.mark.parametrize("seed", range(4))
async def test_any_history_is_compared_as_it_is_reckoned(
    database: Database, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Whatever came by which ways, how late, committed together or apart, and whenever it was looked at."""
    monkeypatch.setattr(comparison, "STEP_EVENTS", 11)
    chance = random.Random(seed)
    fleet = ComparedSource("fleet", GRACE * 1_000_000, (WEBHOOK, SSE, PUBSUB, BACKUP))
    backup = ComparedSource("backup", GRACE * 1_000_000, (BACKUP, WEBHOOK, SSE, PUBSUB))
    arrivals = []
    for number in range(150):
        at = chance.uniform(0, 7200)
        for way in chance.sample(fleet.ways, chance.randint(1, 4)):
            arrivals += [Arrived(number, way, at + chance.choice([0, 1, 100, GRACE + 50]) + chance.random())]
            if chance.random() < 0.2:
                arrivals.append(arrivals[-1]._replace(seconds=arrivals[-1].seconds + 20))
    arrivals.sort(key=lambda one: one.seconds)
    scene = Scene(database, fleet, backup)
    await scene.compare(0)
    done = 0
    while done < len(arrivals):
        some = arrivals[done : (done := done + chance.randint(1, 60))]
        await scene.commit(*some)
        if chance.random() < 0.5:
            await scene.compare(some[-1].seconds)
    await scene.compare(99_999)

    found = {(hour, source, modes): events for hour, source, modes, events in await rows(database, COMPARED)}
    assert found == reckoned(arrivals)
