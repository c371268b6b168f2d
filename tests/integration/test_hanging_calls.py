"""Calls of a handler's code that do not return: how long they are waited for, and what becomes of everything else."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import select
from structlog.testing import capture_logs

from app.handlers.python import AsyncHandler, ThreadHandler
from ingest.event import Event
from ingest.protocols import Handler
from storage.tables import deliveries
from tests.support.dispatching import Stage, an_event, running, until
from tests.support.server import PATIENCE_SECONDS

HASTY: dict[str, Any] = {
    "type": "python",
    "call": "rules:on_event",
    "retry": {"base": "1ms", "cap": "5ms"},
    "concurrency": 2,
}
Hang = Callable[[Event, threading.Event], None]


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """Lets what hangs return, at the latest at the end of the test."""
    event = threading.Event()
    yield event
    event.set()


class Calls:
    """A handler's code, which hangs for the events of some devices until released."""

    def __init__(self, release: threading.Event, *hanging: str) -> None:
        self.tried: list[int] = []
        self.delivered: list[int] = []
        self._release = release
        self._hanging = hanging

    def plain(self, event: Event) -> None:
        """Hang in a thread."""
        self.tried.append(event.position or 0)
        if event.device in self._hanging:
            self._release.wait(20)
        self.delivered.append(event.position or 0)

    async def clinging(self, event: Event) -> None:
        """Hang in a coroutine that cannot be cancelled."""
        self.tried.append(event.position or 0)
        while event.device in self._hanging and not self._release.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0.005)
        self.delivered.append(event.position or 0)


KINDS: dict[str, Callable[[Calls], Handler]] = {
    "plain": lambda calls: ThreadHandler(calls.plain, "h"),
    "clinging": lambda calls: AsyncHandler(calls.clinging),
}
both = pytest.mark.parametrize("kind", KINDS)


async def attempts(stage: Stage) -> dict[int, tuple[int, bool]]:
    """Of each parked row the attempts, and whether it is dead."""
    columns = select(deliveries.c.position, deliveries.c.attempts, deliveries.c.due_at)
    found = await stage.database.read(lambda connection: list(connection.execute(columns)))
    return {row.position: (row.attempts, row.due_at is None) for row in found}


@both
async def test_waiting_for_a_call_that_hangs_is_no_attempt(stage: Stage, release: threading.Event, kind: str) -> None:
    """While all calls hang nothing else is tried or fails; when they return, everything is delivered."""
    calls = Calls(release, "a", "b")
    await stage.commit([an_event(1, "a"), an_event(2, "b"), *(an_event(number, f"d{number}") for number in range(20))])
    settings = HASTY | {"timeout": "200ms", "retry": HASTY["retry"] | {"attempts": 1}}
    async with running(stage.dispatcher(KINDS[kind](calls), **settings)):
        await until(lambda: sorted(calls.tried) == [1, 2])
        await asyncio.to_thread(release.wait, 0.5)  # several times the timeout, and less than ten times
        assert (sorted(calls.tried), await attempts(stage)) == ([1, 2], {})
        release.set()
        await until(lambda: len(calls.delivered) == 22)

    assert set((await attempts(stage)).values()) <= {(1, True)}
    assert set(await attempts(stage)) <= {1, 2}


@both
async def test_a_call_that_never_returns_is_left_behind_with_its_event_named(
    stage: Stage, release: threading.Event, kind: str
) -> None:
    """After ten times its timeout it is one failed attempt, and another worker goes on with the other devices."""
    calls = Calls(release, "stuck")
    await stage.commit([an_event(1, "stuck"), *(an_event(number, f"d{number}") for number in range(20))])
    settings = HASTY | {"timeout": "20ms", "retry": {"base": "1h", "cap": "1h"}}
    with capture_logs() as lines:
        dispatcher = stage.dispatcher(KINDS[kind](calls), **settings)
        async with running(dispatcher):
            await until(lambda: len(calls.delivered) == 20)
            await until(lambda: stage.metric("headrace_handler_deliveries_total", outcome="retried") == 1)
            assert not dispatcher.faults()
            async with asyncio.timeout(PATIENCE_SECONDS):
                while await attempts(stage) != {1: (1, False)}:  # noqa: ASYNC110 - a row has no event of its own
                    await asyncio.sleep(0.002)

    (said,) = [line for line in lines if line["event"] == "call_given_up"]
    assert (said["handler"], said["position"], said["device"]) == ("h", 1, "stuck")


@both
async def test_a_device_waits_for_its_call(stage: Stage, release: threading.Event, kind: str) -> None:
    """Its next event is not called while a call that has overrun its timeout still runs."""
    calls = Calls(release, "slow")
    await stage.commit([an_event(1, "slow"), an_event(2, "slow"), an_event(3, "other")])
    settings = HASTY | {"timeout": "100ms", "retry": HASTY["retry"] | {"attempts": 1}}
    async with running(stage.dispatcher(KINDS[kind](calls), **settings)):
        await until(lambda: calls.delivered == [3])
        await asyncio.to_thread(release.wait, 0.4)
        assert sorted(calls.tried) == [1, 3]
        release.set()
        await until(lambda: len(calls.delivered) == 3)

    assert calls.delivered == [3, 1, 2]


@both
async def test_a_handler_whose_calls_all_hang_fails_until_a_restart(
    stage: Stage, release: threading.Event, kind: str
) -> None:
    """No more than `concurrency` calls are left behind; nothing that was not called becomes a dead letter."""
    calls = Calls(release, "a", "b", "c")
    await stage.commit([an_event(1, "a"), an_event(2, "b"), an_event(3, "c"), an_event(4, "d")])
    settings = HASTY | {"timeout": "20ms", "retry": {"base": "1h", "cap": "1h"}}
    dispatcher = stage.dispatcher(KINDS[kind](calls), **settings)
    async with running(dispatcher):
        await until(lambda: bool(dispatcher.faults()))
        assert dispatcher.faults()["h"].startswith("2 calls of its code never returned")
        found = await attempts(stage)

    assert {position: row for position, row in found.items() if row[0]} == {1: (1, False), 2: (1, False)}
    assert not any(dead for _, dead in found.values())
    assert len(calls.tried) - len(calls.delivered) <= 3
