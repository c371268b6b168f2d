"""A place that cannot be saved, though the store is there: the handler waits, ever longer, and nothing is called."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ingest.event import Event
from tests.support.dispatching import Clock, Recorder, an_event, running, staged
from tests.support.on_the_loop import OnTheLoop
from tests.support.stored import run
from tests.support.virtual_time import in_virtual_time

FAULTS = {
    "the row is refused": "SELECT RAISE(ABORT, 'not in this encoding')",
    "the statement is": "INSERT INTO nowhere VALUES (1)",
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
@in_virtual_time
async def test_a_place_that_cannot_be_saved_is_waited_for(fault: str, tmp_path: Path) -> None:
    """Its event is delivered again up to once a minute while it is failing, and goes on when it can be saved."""
    calls: list[float] = []

    def fail(event: Event) -> None:
        calls.append(asyncio.get_running_loop().time())
        if event.position == 1:
            raise ValueError("what cannot be saved")

    clock = Clock()
    async with staged(OnTheLoop(tmp_path / "test.db"), clock) as stage:
        await stage.commit([an_event(1, "d1")])
        await run(stage.database, f"CREATE TRIGGER no BEFORE INSERT ON deliveries BEGIN {fault}; END")
        dispatcher = stage.dispatcher(handler := Recorder(fail), retry={"attempts": 1})
        async with running(dispatcher):
            await asyncio.sleep(1200)
            assert len(calls) < 50
            assert all(30 <= later - earlier <= 61 for earlier, later in zip(calls[-5:], calls[-4:], strict=False))

            await run(stage.database, "DROP TRIGGER no")
            await stage.commit([an_event(2, "d2")])
            await asyncio.sleep(61)
            assert 2 in handler.positions
