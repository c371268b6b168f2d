"""A receiver that is away, wants to be left alone for a while, or takes no more than so much: in virtual time."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from ingest.deliveries import CircuitState, Parked
from ingest.delivery import Verdict
from ingest.errors import DeadLetter
from ingest.event import Event
from storage.cursors import SqlCursors
from tests.support.dispatching import NOON, Recorder, an_event, balanced, running
from tests.support.receiver import PACE, Receiver, on_stage, parked_rows, refused
from tests.support.virtual_time import in_virtual_time, virtual_loop

BATCHES = pytest.mark.parametrize("batch", [1, 4], ids=["singly", "in batches"])


@BATCHES
def test_while_a_circuit_is_open_nothing_but_a_probe_is_tried(tmp_path: Path, batch: int) -> None:
    """The others are not tried, not parked, and not passed; the state is shown; then all of them arrive in order."""

    @in_virtual_time
    async def run() -> None:
        async with on_stage(tmp_path) as stage:
            receiver = Receiver()
            await stage.commit([an_event(number, f"d{number % 40}") for number in range(200)])
            dispatcher = stage.dispatcher(
                receiver.handler,
                pace=PACE,
                circuit={"failures": 3, "probe": "30s"},
                concurrency=2,
                batch={"events": batch},
            )
            async with running(dispatcher):
                await asyncio.sleep(29)
                tried = set(receiver.calls())
                assert 3 <= len(tried) <= 4 * batch
                parked = await parked_rows(stage)
                assert {row.position for row in parked} <= tried
                found = await balanced(stage)
                assert found.position < 20
                assert found.circuit.state is CircuitState.OPEN
                assert found.circuit.last_error == "answered 500"
                assert stage.metric("headrace_handler_circuit_open") == 1

                await asyncio.sleep(30 + 60 + 120)
                assert len(receiver.calls()) == 3
                assert {row.position for row in await parked_rows(stage)} <= tried | set(receiver.handler.tried)
                await balanced(stage)

                receiver.away = False
                await asyncio.sleep(300)
                found = await balanced(stage)
            assert (found.position, found.waiting, found.dead) == (200, 0, 0)
            assert found.circuit.state is CircuitState.CLOSED
            for device in range(40):
                assert receiver.handler.of(f"d{device}") == list(range(device + 1, 201, 40))

    run()


@in_virtual_time
async def test_a_receiver_that_is_away_for_ten_days_costs_no_event(tmp_path: Path) -> None:
    """With max_age = "3d": no dead letter, also with few attempts, a restart in between, and a blip at the end."""
    speed = 600.0  # ten minutes of the day are a second of the loop: there are less rounds to wait for
    async with on_stage(tmp_path, speed) as stage:
        receiver = Receiver()
        await stage.commit([an_event(number, f"d{number % 9}") for number in range(100)])
        settings: dict[str, Any] = {"retry": {"max_age": "3d"}, "circuit": {}}
        async with running(stage.dispatcher(receiver.handler, pace=PACE, **settings)):
            await asyncio.sleep(4 * 86400 / speed)
            assert (await balanced(stage)).dead == 0
        async with running(stage.dispatcher(receiver.handler, pace=PACE, **settings)):
            await asyncio.sleep(6 * 86400 / speed)
            assert len(receiver.asked) < 60
            receiver.away, receiver.bad = False, {receiver.handler.tried[0]}
            while not receiver.handler.delivered:  # noqa: ASYNC110 - for the next probe
                await asyncio.sleep(1)
            await asyncio.sleep(1)
            assert receiver.bad <= set(receiver.calls()[-100:]), "it has failed once more"
            receiver.bad.clear()
            while (found := await balanced(stage)).position < 100 or found.waiting:  # noqa: ASYNC110 - rows
                await asyncio.sleep(1)
        assert (found.position, found.waiting, found.dead) == (100, 0, 0)
        for device in range(9):
            assert receiver.handler.of(f"d{device}") == list(range(device + 1, 101, 9))


@in_virtual_time
async def test_a_bad_event_does_not_keep_a_circuit_open(tmp_path: Path) -> None:
    """Probes take the one that failed and the newest one by turns."""
    async with on_stage(tmp_path) as stage:
        receiver = Receiver()
        receiver.bad = {1}
        await stage.commit([an_event(1, "bad")])
        dispatcher = stage.dispatcher(
            receiver.handler, pace=PACE, circuit={"failures": 2, "probe": "30s"}, retry={"base": "1s"}
        )
        async with running(dispatcher):
            await asyncio.sleep(20)
            assert receiver.calls() == [1, 1]
            await stage.commit([an_event(number, f"d{number}") for number in range(2, 6)])
            await asyncio.sleep(100)
            assert len(receiver.calls()) == 2, "the second and the third probe come 30 and 60 s later"
            assert set(receiver.handler.tried) == {1, 5}

            receiver.away = False
            await asyncio.sleep(250)
            assert sorted(receiver.handler.positions) == [2, 3, 4, 5]
            assert (await balanced(stage)).circuit.state is not CircuitState.HALF_OPEN


@in_virtual_time
async def test_a_receiver_that_is_set_up_wrong_opens_the_circuit_at_once(tmp_path: Path) -> None:
    """401, 403, 404: the event stays first in line, whatever its attempts, and is delivered when that is mended."""
    async with on_stage(tmp_path) as stage:
        receiver = Receiver(lambda: refused(Verdict.OPEN, 401))
        await stage.commit([an_event(number) for number in range(5)])
        retry = {"attempts": 1, "base": "10m"}
        async with running(stage.dispatcher(receiver.handler, pace=PACE, circuit={}, retry=retry)):
            await asyncio.sleep(25)
            assert receiver.calls() == [1]
            assert [row.position for row in await parked_rows(stage)] == [1], "what waits behind it was not tried"
            receiver.away = False
            await asyncio.sleep(7)
            assert receiver.handler.positions == [1, 2, 3, 4, 5]
            assert (await balanced(stage)).dead == 0


@in_virtual_time
async def test_what_is_refused_opens_no_circuit_and_closes_one(tmp_path: Path) -> None:
    """A receiver that says that an event is at fault is there."""
    async with on_stage(tmp_path) as stage:
        receiver = Receiver(lambda: refused(Verdict.DEAD, 400))
        await stage.commit([an_event(number, f"d{number}") for number in range(30)])
        async with running(stage.dispatcher(receiver.handler, pace=PACE, circuit={"failures": 2})):
            await asyncio.sleep(5)
            found = await balanced(stage)
            assert (found.dead, found.circuit.state) == (30, CircuitState.CLOSED)

            receiver.failure = lambda: refused(Verdict.OPEN, 404)
            await stage.commit([an_event(number, f"d{number}") for number in range(30, 60)])
            await asyncio.sleep(5)
            assert (await balanced(stage)).circuit.state is CircuitState.OPEN
            receiver.failure = DeadLetter
            await asyncio.sleep(30)
            found = await balanced(stage)
            assert (found.dead, found.circuit.state) == (60, CircuitState.CLOSED)


@BATCHES
def test_a_receiver_that_asks_to_wait_is_left_alone(tmp_path: Path, batch: int) -> None:
    """Retry-After is for the whole handler, and never longer than retry.cap."""

    @in_virtual_time
    async def run() -> None:
        async with on_stage(tmp_path) as stage:
            receiver = Receiver(lambda: refused(Verdict.RETRY, 429, retry_after=120))
            await stage.commit([an_event(number, f"d{number}") for number in range(30)])
            settings: dict[str, Any] = {"concurrency": 1, "batch": {"events": batch}, "retry": {"cap": "5m"}}
            async with running(stage.dispatcher(receiver.handler, pace=PACE, **settings)):
                await asyncio.sleep(119)
                assert len(receiver.calls()) <= batch
                await balanced(stage)
                receiver.failure = lambda: refused(Verdict.RETRY, 429, retry_after=86400)
                await asyncio.sleep(10)
                receiver.calls()
                await asyncio.sleep(280)
                assert receiver.calls() == []
                receiver.away = False
                await asyncio.sleep(600)
                found = await balanced(stage)
            assert (found.position, found.waiting, found.dead) == (30, 0, 0)

    run()


@in_virtual_time
async def test_eight_thousand_that_always_fail_do_not_hold_up_five(tmp_path: Path) -> None:
    """Five that succeed at the second attempt are there within a minute."""
    async with on_stage(tmp_path) as stage:

        def behave(event: Event) -> None:
            if event.name == "broken" or handler.tried.count(event.position or 0) == 1:
                raise ValueError

        handler = Recorder(behave)
        await stage.commit([an_event(number, f"d{number}", name="broken") for number in range(8000)])
        await stage.commit([an_event(number, f"d{number}") for number in range(8000, 8005)])
        async with running(stage.dispatcher(handler, pace=PACE)):
            async with asyncio.timeout(60):
                while len(handler.positions) < 5:  # noqa: ASYNC110 - what is waited for has no event of its own
                    await asyncio.sleep(1)
            assert sorted(handler.positions) == [8001, 8002, 8003, 8004, 8005]
            await balanced(stage)


@in_virtual_time
async def test_what_waits_behind_a_failed_event_goes_on_at_once(tmp_path: Path) -> None:
    """It uses up no attempt; and what failed is tried when it is due, not up to a second later."""
    async with on_stage(tmp_path) as stage:
        times: list[tuple[int, float]] = []

        def behave(event: Event) -> None:
            times.append((event.position or 0, virtual_loop().time()))
            if len(times) == 1:
                raise ValueError

        handler = Recorder(behave)
        retry = {"base": "30ms", "cap": "30ms", "attempts": 2}
        await stage.commit([an_event(number) for number in range(3)])
        async with running(stage.dispatcher(handler, pace=PACE, retry=retry)):
            await asyncio.sleep(5)

    positions, at = zip(*times, strict=True)
    assert positions == (1, 1, 2, 3)
    assert at[1] - at[0] <= 0.1
    assert at[2] - at[1] <= 0.05


@in_virtual_time
async def test_bad_events_that_are_first_of_many_devices_do_not_keep_a_circuit_open(tmp_path: Path) -> None:
    """Where all that is left is parked, probes go to what has not failed too, though older events have."""
    async with on_stage(tmp_path) as stage:
        receiver = Receiver()
        receiver.bad = set(range(1, 41))
        await stage.commit([an_event(number, f"bad{number}") for number in range(40)])
        await stage.commit([an_event(number, f"d{number % 5}") for number in range(40, 60)])
        settings: dict[str, Any] = {"circuit": {"failures": 2, "probe": "30s"}, "retry": {"base": "1s"}}
        cursor = await SqlCursors(stage.database).acquire("h", holder="before", begin="beginning")
        assert cursor is not None
        rows = [
            Parked(at, f"bad{at - 1}" if at <= 40 else f"d{(at - 1) % 5}", 0, None, NOON, "") for at in range(1, 61)
        ]
        await cursor.advance(60, rows)
        await cursor.release()
        async with running(stage.dispatcher(receiver.handler, pace=PACE, **settings)):
            await asyncio.sleep(20)
            assert (await balanced(stage)).circuit.state is CircuitState.OPEN
            receiver.away = False
            receiver.calls()
            await asyncio.sleep(30 + 60)
            assert set(receiver.calls()) - receiver.bad, "two probes, and one of them was taken"
