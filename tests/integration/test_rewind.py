"""A database that is put back to an older state under a living process: what is stored afterwards is delivered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from app.dispatcher import checkpointer
from ingest.event import Event
from storage.engine import open_database
from storage.store import SqlStore
from tests.support.dispatching import Clock, Stage, an_event, running, staged, until
from tests.support.fresh import ALL, fresh_store
from tests.support.put_back import put_back, take_copy
from tests.support.server import PATIENCE_SECONDS
from tests.support.stored import rows, run

LOST = range(20, 40)
NEW = range(100, 110)


@pytest.fixture(params=ALL)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty store on each database."""
    return fresh_store(request.param, tmp_path)


@pytest.fixture
async def stage(url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    """A process that renews its lease all the time: a save is then soon, also where nothing moved."""
    monkeypatch.setattr(checkpointer, "_RENEW_SECONDS", 0.05)
    async with staged(open_database(url), Clock()) as stage:
        yield stage


def some(numbers: Sequence[int]) -> list[Event]:
    """Events of three devices."""
    return [an_event(number, f"d{number % 3}") for number in numbers]


class Numbered:
    """A handler that remembers the numbers of the events it took: positions are given twice here."""

    def __init__(self) -> None:
        self.numbers: list[int] = []

    async def deliver(self, events: Sequence[Event]) -> None:
        """Remember."""
        self.numbers.extend(int(event.data or b"") for event in events)

    async def close(self) -> None:
        """Hold nothing."""

    def of(self, device: int, among: Sequence[int]) -> list[int]:
        """What it took of a device, in that order."""
        return [number for number in self.numbers if number in among and number % 3 == device]

    def has(self, wanted: Sequence[int]) -> bool:
        """Whether it took them all."""
        return set(wanted) <= set(self.numbers)


async def prepared(stage: Stage, handler: Numbered) -> None:
    """Let the handler have 20 events that the copy has too, and 20 that it has not."""
    await stage.commit(some(range(20)))
    await until(lambda: handler.has(range(20)))
    await take_copy(stage.database)
    await stage.commit(some(LOST))
    await until(lambda: handler.has(LOST))
    await until_saved(stage, 40)


async def until_saved(stage: Stage, position: int) -> None:
    """Return when the handler's cursor is at the position."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await rows(stage.database, "SELECT position FROM cursors") != [(position,)]:  # noqa: ASYNC110 - a database has no event
            await asyncio.sleep(0.002)


async def test_what_is_stored_after_it_is_delivered(stage: Stage) -> None:
    """Events that get the positions of lost ones reach the handler, once and in order; the rewind is counted once."""
    handler = Numbered()
    async with running(stage.dispatcher(handler)):
        await prepared(stage, handler)
        await put_back(stage.database)
        await stage.commit(some(NEW))
        await until(lambda: handler.has(NEW), f"for {NEW}")
        await until_saved(stage, 30)

    for device in range(3):
        assert handler.of(device, NEW) == [number for number in NEW if number % 3 == device]
    assert stage.metrics.registry.get_sample_value("headrace_store_rewinds_total") == 1


@pytest.mark.parametrize("count", [10, 20, 40])
async def test_what_others_store_after_it_is_delivered(stage: Stage, count: int) -> None:
    """As much as another process stores before this one looks again, up to the old head or beyond, all is delivered."""
    new = range(100, 100 + count)
    handler = Numbered()
    async with running(stage.dispatcher(handler)):
        await prepared(stage, handler)
        await put_back(stage.database)
        await SqlStore(stage.database, stage.clock).commit(some(new))
        await until(lambda: handler.has(new), f"for {new}")

    assert stage.metrics.registry.get_sample_value("headrace_store_rewinds_total") == 1


async def test_a_handler_that_the_copy_does_not_know_begins_where_the_copy_ends(stage: Stage) -> None:
    """A handler that was new since the copy, from now on, gets what is stored after the database was put back."""
    await stage.commit(some(range(20)))
    await take_copy(stage.database)
    handler = Numbered()
    async with running(stage.dispatcher(handler, begin="now")):
        await until_saved(stage, 20)
        await stage.commit(some(LOST))
        await until(lambda: handler.has(LOST))
        await put_back(stage.database)
        await stage.commit(some(NEW))
        await until(lambda: handler.has(NEW), f"for {NEW}")


async def test_a_cursor_beyond_the_end_goes_on_from_there(stage: Stage) -> None:
    """A cursor that an earlier version left beyond the last position is moved there when it is taken."""
    handler = Numbered()
    await stage.commit(some(range(20)))
    await run(stage.database, "INSERT INTO cursors (handler, position, epoch) VALUES ('h', 500, 7)")
    async with running(stage.dispatcher(handler)):
        await until_saved(stage, 20)
        await stage.commit(some(NEW))
        await until(lambda: handler.has(NEW), f"for {NEW}")

    assert sorted(handler.numbers) == list(NEW)
    assert stage.metrics.registry.get_sample_value("headrace_store_rewinds_total") == 1
