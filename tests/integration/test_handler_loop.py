"""A python handler in its own event loop: whatever its code raises or blocks, everything else goes on."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from sqlalchemy import select, update
from structlog.testing import capture_logs

from app.dispatcher import Dispatcher
from app.handlers.python import AsyncHandler
from ingest.event import Event
from storage import deliveries as rows
from storage.tables import cursors, deliveries
from tests.support.dispatching import HURRY, SETTINGS, Recorder, Stage, an_event, running, until

PYTHON: dict[str, Any] = {"type": "python", "call": "rules:on_event", "retry": {"base": "1ms", "cap": "5ms"}}


class OwnError(BaseException):
    """What no handler is expected to raise."""


def task() -> asyncio.Task[Any]:
    """The task that the handler's code runs in."""
    found = asyncio.current_task()
    assert found is not None
    return found


async def interrupts(_event: Event) -> None:
    raise KeyboardInterrupt


async def raises_its_own(_event: Event) -> None:
    raise OwnError


async def exits_as_a_generator(_event: Event) -> None:
    raise GeneratorExit


async def raises_a_group(_event: Event) -> None:
    raise BaseExceptionGroup("several", [KeyboardInterrupt(), ValueError()])


async def exits(_event: Event) -> None:
    sys.exit(3)


async def has_a_child_that_exits(_event: Event) -> None:
    await asyncio.create_task(exits(_event))


async def has_a_group_whose_child_is_interrupted(_event: Event) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(interrupts(_event))
        group.create_task(asyncio.Event().wait())


async def cancels_itself(_event: Event) -> None:
    task().cancel()
    await asyncio.sleep(0)


async def cancels_itself_unseen(_event: Event) -> None:
    task().cancel()
    raise ValueError


async def stops_its_loop(_event: Event) -> None:
    asyncio.get_running_loop().stop()
    await asyncio.sleep(0)
    raise ValueError


@pytest.mark.parametrize(
    "misbehave",
    [
        interrupts,
        raises_its_own,
        exits_as_a_generator,
        raises_a_group,
        exits,
        has_a_child_that_exits,
        has_a_group_whose_child_is_interrupted,
        cancels_itself,
        cancels_itself_unseen,
        stops_its_loop,
    ],
)
async def test_whatever_is_raised_is_a_failed_delivery(stage: Stage, misbehave: Callable[[Event], Any]) -> None:
    """It counts as one attempt, the last of them makes a dead letter, and all other events are delivered."""

    async def behave(event: Event) -> None:
        if event.device == "poison":
            await misbehave(event)

    handler = Recorder(behave)
    await stage.commit([an_event(number, "poison" if number % 10 == 0 else f"d{number % 3}") for number in range(40)])
    settings = PYTHON | {"retry": {"base": "1ms", "cap": "5ms", "attempts": 3}, "concurrency": 2}
    async with running(stage.dispatcher(AsyncHandler(handler.call), **settings)):
        await until(lambda: stage.metric("headrace_handler_deliveries_total", outcome="dead") == 4)
        await until(lambda: len(handler.delivered) == 36)

    dead = await stage.database.read(
        lambda connection: list(connection.execute(select(deliveries.c.position, deliveries.c.attempts)))
    )
    assert [tuple(row) for row in dead] == [(1, 3), (11, 3), (21, 3), (31, 3)]
    assert len(handler.tried) == 36 + 12


async def test_a_child_that_nobody_awaits_cannot_end_the_loop(stage: Stage) -> None:
    """sys.exit() in a task in the background ends neither the loop nor what else is being delivered in it."""
    release = threading.Event()
    tasks = set()

    async def behave(event: Event) -> None:
        if event.position == 1:
            await asyncio.to_thread(release.wait, 20)
        else:
            tasks.add(asyncio.create_task(exits(event)))

    handler = Recorder(behave)
    await stage.commit([an_event(number, f"d{number}") for number in range(20)])
    async with running(stage.dispatcher(AsyncHandler(handler.call), **PYTHON)):
        await until(lambda: len(handler.delivered) == 19)
        release.set()
        await until(lambda: len(handler.delivered) == 20)

    assert sorted(handler.tried) == list(range(1, 21))


async def blocked(stage: Stage, release: threading.Event) -> tuple[Dispatcher, Recorder, Recorder]:
    """A dispatcher with two handlers, of which `stuck` will block its loop at the first event until released."""

    async def behave(_event: Event) -> None:
        release.wait(20)

    stuck, other = Recorder(behave), Recorder()
    apart = SETTINGS.validate_python(PYTHON | {"from": "beginning"})
    handlers = {"stuck": (AsyncHandler(stuck.call), apart), "other": (AsyncHandler(other.call), apart)}
    dispatcher = Dispatcher(
        handlers,
        stage.feed,
        stage.cursors,
        stage.metrics,
        holder="here",
        clock=stage.clock,
        random=Random(7),
        limits=replace(HURRY, drain_seconds=0.1),
    )
    return dispatcher, stuck, other


async def test_a_handler_that_blocks_stops_nobody_else_and_is_named(stage: Stage) -> None:
    """While its loop is blocked the home loop and other handlers go on; log and fault name it and the place."""
    release = threading.Event()
    dispatcher, stuck, other = await blocked(stage, release)
    with capture_logs() as lines:
        async with running(dispatcher):
            await stage.commit([an_event(1)])
            await until(lambda: bool(dispatcher.faults()))
            assert dispatcher.faults() == {"stuck": "its code blocks the event loop that it runs in"}
            await stage.commit([an_event(number) for number in range(2, 9)])
            await until(lambda: len(other.delivered) == 8)
            await until(lambda: stage.metrics.registry.get_sample_value(*LAG) == 8)
            release.set()
            await until(lambda: len(stuck.delivered) == 8)
            await until(lambda: not dispatcher.faults())

    said = [line for line in lines if line["event"] == "handler_blocks"]
    assert [line["handler"] for line in said] == ["stuck"]
    assert said[0]["at"].startswith("threading.py:")


STUCK_AT = select(cursors.c.position).where(cursors.c.handler == "stuck")
LAG = ("headrace_handler_lag_events", {"handler": "stuck"})


async def test_a_blocked_handler_keeps_its_lease(stage: Stage) -> None:
    """The home loop renews it, so that no other process delivers beside it."""
    release = threading.Event()
    dispatcher, stuck, _ = await blocked(stage, release)

    expiry = select(cursors.c.expires_at).where(cursors.c.handler == "stuck")
    async with running(dispatcher):
        await stage.commit([an_event(1)])
        await until(lambda: "stuck" in dispatcher.faults())
        await stage.database.write(
            lambda connection: (
                connection.execute(update(cursors).where(cursors.c.handler == "stuck").values(expires_at=1)) and None
            )
        )
        renewed = 1
        while renewed == 1:
            await asyncio.sleep(0.01)
            renewed = await stage.database.read(lambda connection: connection.execute(expiry).scalar_one())
        release.set()
        await until(lambda: bool(stuck.delivered))

    assert stuck.tried == [1]


async def test_a_stop_does_not_wait_for_a_handler_that_blocks(stage: Stage) -> None:
    """The dispatcher leaves it behind when the drain is over, and its event comes again at the next start."""
    release = threading.Event()
    dispatcher, stuck, _ = await blocked(stage, release)
    try:
        async with running(dispatcher):
            await stage.commit([an_event(1)])
            await until(lambda: stuck.tried == [1])
        assert not stuck.delivered
        position = await stage.database.read(lambda connection: connection.execute(STUCK_AT).scalar_one())
    finally:
        release.set()
    await ended("handler-stuck")

    assert position == 0


async def test_cancelling_ends_the_loops_too(stage: Stage) -> None:
    """A cancelled dispatcher leaves no thread behind, and what it has not saved is delivered once more."""
    handler = Recorder(lambda _event: _forever())
    await stage.commit([an_event(1)])
    task = asyncio.create_task(stage.dispatcher(AsyncHandler(handler.call), **PYTHON).run())
    await until(lambda: handler.tried == [1])
    task.cancel()
    await asyncio.wait([task])
    await ended("handler-h")

    again = Recorder()
    await stage.database.write(lambda connection: connection.execute(update(cursors).values(expires_at=1)) and None)
    async with running(stage.dispatcher(AsyncHandler(again.call), **PYTHON)):
        await until(lambda: again.positions == [1])
    assert (await stage.database.read(rows.lag, "h")) is not None


async def ended(name: str) -> None:
    """Wait until no thread has this name."""
    await until(lambda: all(thread.name != name for thread in threading.enumerate()))


def _forever() -> Awaitable[None]:
    return asyncio.Event().wait()  # type: ignore[return-value]
