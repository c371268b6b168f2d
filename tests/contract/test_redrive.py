"""Many dead letters given back in steps, beside others who write, and interrupted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

import pytest
from sqlalchemy import select

from ingest.deliveries import Parked
from storage import dead_letters
from storage.cursors import SqlCursor, SqlCursors
from storage.engine import open_database
from storage.tables import deliveries
from tests.support.dispatching import NOON, Clock, Stage, an_event, staged
from tests.support.fresh import ALL

STORES = ALL
COUNT = 240


def dead(position: int, failed_at: timedelta = timedelta()) -> Parked:
    """A dead letter."""
    return Parked(position, "d1", 3, NOON + failed_at, None, "boom", "timeout")


@pytest.fixture
async def stage(url: str) -> AsyncIterator[Stage]:
    """A store with many events."""
    async with staged(open_database(url), Clock()) as stage:
        await stage.commit([an_event(number) for number in range(COUNT)])
        yield stage


async def given_up(stage: Stage) -> SqlCursor:
    """The cursor of `h`, which gave up all events."""
    cursor = await SqlCursors(stage.database).acquire("h", holder="one", begin="beginning")
    assert cursor is not None
    await cursor.advance(COUNT, [dead(position) for position in range(1, COUNT + 1)])
    return cursor


async def due(stage: Stage) -> Sequence[int]:
    """Which events wait for another try."""
    rows = select(deliveries.c.position).where(deliveries.c.due_at.is_not(None)).order_by(deliveries.c.position)
    return await stage.database.read(lambda connection: connection.execute(rows).scalars().all())


async def test_an_interrupted_redrive_is_run_again(stage: Stage) -> None:
    """What an earlier run gave back is delivered, waits, or died again: none of it is given back a second time."""
    cursor = await given_up(stage)
    chosen = dead_letters.Chosen(until=NOON + timedelta(hours=1))
    counts = []
    for _ in range(2):
        steps = dead_letters.each_step(stage.database, dead_letters.give_back, "h", chosen)
        counts.append(await anext(steps))
        await steps.aclose()
        given_back = await due(stage)
        await cursor.advance(COUNT, [dead(given_back[0], timedelta(hours=2))], given_back[1:-1])
    counts += [count async for count in dead_letters.each_step(stage.database, dead_letters.give_back, "h", chosen)]
    assert counts == [100, 100, 40]
    assert len(await due(stage)) == 40 + 1, "of the second step the last one waits still"


async def test_two_redrives_at_once_share_the_work(stage: Stage) -> None:
    """Each letter is given back by one of them."""
    await given_up(stage)
    walks = [dead_letters.each_step(stage.database, dead_letters.give_back, "h", dead_letters.ALL) for _ in range(2)]
    counts = [await anext(walks[0]), await anext(walks[1])]
    for walk in walks:
        counts += [count async for count in walk]
    assert sum(counts) == COUNT
    assert await due(stage) == list(range(1, COUNT + 1))


async def test_a_rate_makes_steps_of_a_fifth_of_it(stage: Stage) -> None:
    """So that what is given back in a second comes evenly, and in no larger steps than without one."""
    await given_up(stage)
    some = dead_letters.Chosen(positions=range(1, 31))
    steps = dead_letters.each_step(stage.database, dead_letters.give_back, "h", some, 50.0)
    assert [count async for count in steps] == [10, 10, 10]
    steps = dead_letters.each_step(stage.database, dead_letters.give_back, "h", dead_letters.ALL, 1e6)
    assert [count async for count in steps] == [100, 100, 10]
