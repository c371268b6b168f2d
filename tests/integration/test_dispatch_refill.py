"""What is parked for many devices is read together, and whoever asked has it when the call returns."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from app.dispatcher.checkpointer import Checkpointer
from app.dispatcher.context import DispatchLimits
from app.dispatcher.lanes import Lane
from app.dispatcher.window import Window
from ingest.deliveries import Parked
from ingest.errors import StoreUnavailable
from ingest.event import Event
from ingest.protocols import Cursor
from storage.engine import open_database
from tests.support.dispatching import NOON, Clock, an_event, staged

DEVICES = 100


class Asked:
    """A cursor that writes down how many devices each question is about; the question `failing` gets no answer."""

    def __init__(self, cursor: Cursor, failing: int | None) -> None:
        self._cursor = cursor
        self._failing = failing
        self.sizes: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)

    async def behind(self, devices: Sequence[str], limit: int) -> Mapping[str, Sequence[tuple[Parked, Event]]]:
        """See protocols.Cursor."""
        self.sizes.append(len(devices))
        if len(self.sizes) == self._failing:
            raise StoreUnavailable("away")
        return await self._cursor.behind(devices, limit)


@asynccontextmanager
async def asked(folder: Path, failing: int | None = None) -> AsyncIterator[tuple[Asked, Checkpointer]]:
    """A cursor that has passed a parked event of each device."""
    clock = Clock()
    async with staged(open_database(f"sqlite:///{folder}/test.db"), clock) as stage:
        await stage.commit([an_event(number, f"d{number}") for number in range(DEVICES)])
        cursor = await stage.cursors.acquire("h", holder="one", begin="beginning")
        assert cursor is not None
        await cursor.advance(DEVICES, [Parked(n + 1, f"d{n}", 1, NOON, NOON, "boom") for n in range(DEVICES)])
        counting: Any = Asked(cursor, failing)
        window = Window(DEVICES, (), DispatchLimits(), by_device=True, workers=1)
        began = asyncio.get_running_loop().time()
        yield (
            counting,
            Checkpointer(counting, window, clock, asked_at=began, by_device=True, longest=timedelta(minutes=20)),
        )


async def refilled(checkpointer: Checkpointer) -> list[bool]:
    """Ask for all lanes at one time; whether each had its event when its call returned. Raises nothing."""

    async def ask(lane: Lane) -> bool:
        try:
            await checkpointer.refill(lane)
        except StoreUnavailable:
            return False
        return [delivery.event.device for delivery in lane.retries] == [lane.key]

    return await asyncio.gather(*[ask(Lane(f"d{number}", parked_to=DEVICES)) for number in range(DEVICES)])


async def test_lanes_that_ask_at_one_time_are_read_together(tmp_path: Path) -> None:
    """A hundred devices are five questions: the first one alone, as nobody had to wait yet, and 32 at most."""
    async with asked(tmp_path) as (cursor, checkpointer):
        assert all(await refilled(checkpointer))
    assert cursor.sizes == [1, 32, 32, 32, 3]


async def test_a_question_without_an_answer_is_one_lane_s_failure(tmp_path: Path) -> None:
    """The others that were asked for with it ask again, and none is told that it was read when it was not."""
    async with asked(tmp_path, failing=2) as (_, checkpointer):
        found = await refilled(checkpointer)
    assert found.count(False) == 1
