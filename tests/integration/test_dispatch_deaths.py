"""A process that dies while its handler's own code runs: what may have ended it is tried one by one, and marked."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import select

from ingest.event import Event
from storage.tables import crash_marks, deliveries
from tests.support.dispatching import Recorder, Stage, an_event, balanced, passed, running

OWN_CODE: dict[str, Any] = {"type": "python", "call": "rules:on_event", "retry": {"base": "1ms", "cap": "5ms"}}


async def marks(stage: Stage) -> dict[int, int]:
    """The deaths of each marked event."""
    columns = select(crash_marks.c.position, crash_marks.c.deaths)
    found = await stage.database.read(lambda connection: list(connection.execute(columns)))
    return {row.position: row.deaths for row in found}


class Deadly:
    """A handler of which some events end the process, so to say: they never return, and the test cancels all of it."""

    def __init__(self, *deadly: int) -> None:
        self.dying = asyncio.Event()
        self._deadly = set(deadly)
        self._loop = asyncio.get_running_loop()
        self.handler = Recorder(self.behave)

    async def behave(self, event: Event) -> None:
        """Die of it, or not."""
        if event.position in self._deadly:
            self._loop.call_soon_threadsafe(self.dying.set)
            await asyncio.Event().wait()


async def life(stage: Stage, *deadly: int, **settings: Any) -> list[int]:
    """A process that begins and dies; the events that it tried."""
    subject = Deadly(*deadly)
    task = asyncio.create_task(stage.dispatcher(subject.handler, **OWN_CODE | settings).run())
    await subject.dying.wait()
    task.cancel()
    await asyncio.wait([task])
    return subject.handler.tried


@pytest.mark.parametrize("batch", [1, 5], ids=["singly", "in batches"])
async def test_an_event_that_ends_the_process_is_given_up_at_last(stage: Stage, batch: int) -> None:
    """The first death blames nobody, three more blame the one that was marked; all others are delivered."""
    await stage.commit([an_event(number, f"d{number % 7}") for number in range(40)])
    settings: dict[str, Any] = {"batch": {"events": batch}, "concurrency": 4}
    for deaths in ({}, {20: 0}, {20: 1}, {20: 2}):
        tried = await life(stage, 20, **settings)
        assert 20 in tried
        assert await marks(stage) == deaths

    survivor = Deadly(20)
    async with running(stage.dispatcher(survivor.handler, **OWN_CODE | settings)):
        found = await passed(stage, 40)
        assert (found.dead, found.waiting) == (1, 0)
        assert 20 not in survivor.handler.tried
        assert (await balanced(stage)).passed.delivered == 39
        assert stage.metric("headrace_handler_failures_total", cause="crashed") == 1

        await stage.commit([an_event(number, f"d{number}") for number in range(40, 80)])
        await passed(stage, 80)
    row = await stage.database.read(lambda c: c.execute(select(deliveries.c.cause, deliveries.c.error)).one())
    assert tuple(row) == ("crashed", "the process died 3 times while it was being delivered")
    assert await marks(stage) == {}


async def test_a_process_that_dies_of_something_else_blames_no_event(stage: Stage) -> None:
    """Its suspects are tried one by one and let off; then there are as many at once as ever, and no more marks."""
    await stage.commit([an_event(number, f"d{number}") for number in range(10)])
    await life(stage, 5)
    together, most = 0, 0

    async def behave(event: Event) -> None:
        nonlocal together, most
        together, most = together + 1, max(most, together + 1)
        await asyncio.sleep(0.01)
        together -= 1

    handler = Recorder(behave)
    async with running(stage.dispatcher(handler, concurrency=4, **OWN_CODE)):
        await passed(stage, 10)
        assert (most, await marks(stage)) in ((1, {}), (1, {handler.tried[-1]: 0}))
        number = 10
        while most < 4:
            await stage.commit([an_event(each, f"d{each}") for each in range(number, number + 8)])
            number += 8
            await passed(stage, number)
        assert await marks(stage) == {}
    assert (await balanced(stage)).dead == 0


async def test_a_stop_leaves_no_mark(stage: Stage) -> None:
    """While suspects are being tried, too: what was marked then did not end the process."""
    await stage.commit([an_event(number, f"d{number}") for number in range(10)])
    await life(stage, 5)
    entered = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def behave(event: Event) -> None:
        loop.call_soon_threadsafe(entered.set)
        await asyncio.sleep(0.05)

    async with running(stage.dispatcher(Recorder(behave), **OWN_CODE)):
        await entered.wait()
        assert await marks(stage) != {}
    assert await marks(stage) == {}


async def test_a_handler_that_is_not_the_operator_s_code_has_no_suspects(stage: Stage) -> None:
    """A receiver elsewhere does not end our process."""
    await stage.commit([an_event(number, f"d{number}") for number in range(10)])
    subject = Deadly(5)
    task = asyncio.create_task(stage.dispatcher(subject.handler).run())
    await subject.dying.wait()
    task.cancel()
    await asyncio.wait([task])
    writes: list[dict[int, int]] = []

    async def behave(_event: Event) -> None:
        writes.append(await marks(stage))

    async with running(stage.dispatcher(Recorder(behave))):
        await passed(stage, 10)
    assert writes
    assert not any(writes)
