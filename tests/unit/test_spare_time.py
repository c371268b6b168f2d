"""The Auditor works in what the event loop has left."""

from __future__ import annotations

import asyncio

import pytest

from app.auditor.spare_time import SpareTime, times_to_rest
from tests.support.virtual_time import VirtualLoop, in_virtual_time

SLICE = 0.001


@pytest.mark.parametrize(("busy", "least", "most"), [(0, 0, 0), (0.2, 0, 0.1), (0.5, 1, 3), (0.9, 19, 19), (7, 19, 19)])
def test_the_busier_the_loop_the_longer_the_rest(busy: float, least: float, most: float) -> None:
    """An idle loop costs no rest; of one that is never idle a twentieth is taken."""
    assert least <= times_to_rest(busy) <= most


async def _rested(loop: VirtualLoop) -> float:
    """Work for one slice; return how many seconds the rest behind it took."""
    spare_time = SpareTime(loop.time)
    loop.forward(SLICE)
    await spare_time.give_way()
    began = loop.time()
    await spare_time.rest()
    return loop.time() - began


@in_virtual_time
async def test_others_go_first() -> None:
    """A step does not rest where nobody else has anything to do, and nineteen times its work beside who always has."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    assert await _rested(loop) == 0

    async def work_on() -> None:
        while True:
            loop.forward(SLICE)
            await asyncio.sleep(0)

    working = asyncio.create_task(work_on())
    await asyncio.sleep(0)
    assert await _rested(loop) >= 19 * SLICE
    working.cancel()
