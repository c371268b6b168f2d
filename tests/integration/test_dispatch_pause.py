"""A handler that is paused, by somebody or by its receiver, and one whose rate is bounded: in virtual time."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from ingest.delivery import Verdict
from ingest.event import Event
from storage import pauses
from storage.retention import Retention
from storage.tables import cursors
from tests.support.dispatching import Recorder, Stage, an_event, balanced, running
from tests.support.receiver import PACE, Receiver, on_stage, parked_rows, refused
from tests.support.virtual_time import in_virtual_time

OBEYED_SECONDS = 5


async def pause(stage: Stage) -> None:
    """What a command in another process does."""
    assert await stage.database.write(pauses.pause, "h", "by hand")


async def resume(stage: Stage) -> None:
    """What a command in another process does."""
    assert await stage.database.write(pauses.resume, "h")


@in_virtual_time
async def test_a_pause_is_obeyed_and_costs_nothing(tmp_path: Path) -> None:
    """Within five seconds nothing is tried or parked any more; resumed, everything arrives once, in order."""
    async with on_stage(tmp_path) as stage:
        handler = Recorder()
        await stage.commit([an_event(number) for number in range(3)])
        async with running(stage.dispatcher(handler, pace=PACE)):
            await asyncio.sleep(1)
            assert handler.positions == [1, 2, 3]
            await pause(stage)
            await asyncio.sleep(OBEYED_SECONDS)
            await stage.commit([an_event(number, f"d{number % 2}") for number in range(3, 60)])
            await asyncio.sleep(120)
            assert handler.tried == [1, 2, 3]
            assert await parked_rows(stage) == []
            assert (await balanced(stage)).position == 3
            assert stage.metric("headrace_handler_paused") == 1

            await resume(stage)
            await asyncio.sleep(OBEYED_SECONDS)
            assert (await balanced(stage)).position == 60
            assert stage.metric("headrace_handler_paused") == 0
    assert sorted(handler.tried) == list(range(1, 61))
    assert handler.of("d0") == sorted(handler.of("d0"))


@in_virtual_time
async def test_a_batch_that_is_being_filled_is_not_delivered_in_a_pause(tmp_path: Path) -> None:
    """Its events are put back where they were, and arrive in order when the handler is resumed."""
    async with on_stage(tmp_path) as stage:
        handler = Recorder()
        batch = {"events": 10, "wait": "20s"}
        async with running(stage.dispatcher(handler, pace=PACE, batch=batch)):
            await stage.commit([an_event(number, f"d{number % 2}") for number in range(6)])
            await asyncio.sleep(1)
            await pause(stage)
            await asyncio.sleep(60)
            assert handler.tried == []
            await resume(stage)
            await asyncio.sleep(60)
            assert (await balanced(stage)).position == 6
    assert (handler.of("d0"), handler.of("d1")) == ([1, 3, 5], [2, 4, 6])


@in_virtual_time
async def test_a_receiver_that_wants_no_more_pauses_its_handler(tmp_path: Path) -> None:
    """The event stays first in line without dying, also for the next process, until somebody resumes it."""
    async with on_stage(tmp_path) as stage:
        receiver = Receiver(lambda: refused(Verdict.PAUSE, 410))
        await stage.commit([an_event(number) for number in range(4)])
        retry = {"attempts": 1, "base": "10m"}
        for _ in range(2):
            async with running(stage.dispatcher(receiver.handler, pace=PACE, retry=retry)):
                await asyncio.sleep(120)
                assert receiver.handler.tried == [1]
                found = await balanced(stage)
                assert (found.dead, found.waiting) == (0, 1)
                assert found.pause is not None
                assert found.pause.because == "answered 410"

        async with running(stage.dispatcher(receiver.handler, pace=PACE, retry=retry)):
            receiver.away = False
            await resume(stage)
            await asyncio.sleep(OBEYED_SECONDS)
            assert receiver.handler.positions == [1, 2, 3, 4]
            await balanced(stage)


@in_virtual_time
async def test_a_lease_that_is_lost_in_a_pause_leaves_the_pause(tmp_path: Path) -> None:
    """Whoever takes the cursor over is paused too; resumed, one of them delivers, and each event once."""
    async with on_stage(tmp_path) as stage:
        first, second = Recorder(), Recorder()
        async with running(stage.dispatcher(first, pace=PACE)):
            await asyncio.sleep(1)
            await pause(stage)
            await asyncio.sleep(OBEYED_SECONDS)
            await stage.commit([an_event(number) for number in range(9)])
            expired = update(cursors).values(expires_at=1)
            await stage.database.write(lambda connection: connection.execute(expired) and None)
            async with running(stage.dispatcher(second, pace=PACE)):
                await asyncio.sleep(60)
                await stage.held_by(second)
                assert first.tried == second.tried == []

                await resume(stage)
                await asyncio.sleep(OBEYED_SECONDS)
                assert sorted(first.positions + second.positions) == list(range(1, 10))
                await balanced(stage)


@in_virtual_time
async def test_what_was_given_up_ahead_of_the_cursor_stays_so_after_a_pause(tmp_path: Path) -> None:
    """A dead letter behind an event that a pause held back is not delivered again, after later ones of its device."""
    release, wants = asyncio.Event(), False

    async def take(event: Event) -> None:
        if event.position == 1:
            await release.wait()
        if event.position == 3:
            raise refused(Verdict.DEAD, 400)
        if event.position == 4 and not wants:
            raise refused(Verdict.PAUSE, 410)

    async with on_stage(tmp_path) as stage:
        handler = Recorder(take)
        await stage.commit([an_event(number, device) for number, device in enumerate(("d0", "d0", "d1", "d1"))])
        async with running(stage.dispatcher(handler, pace=PACE, concurrency=2, retry={"base": "1s"})):
            await asyncio.sleep(OBEYED_SECONDS)
            release.set()
            await asyncio.sleep(OBEYED_SECONDS)
            assert handler.tried == [1, 3, 4]
            wants = True
            await resume(stage)
            await asyncio.sleep(60)
            found = await balanced(stage)
    assert (sorted(handler.tried), handler.positions) == ([1, 2, 3, 4, 4], [1, 2, 4])
    assert (found.position, found.dead) == (4, 1)


@in_virtual_time
async def test_what_retention_took_in_a_pause_is_not_delivered_after_it(tmp_path: Path) -> None:
    """Neither what was read nor what was parked before: it is counted as skipped or deleted, and the rest arrives."""
    async with on_stage(tmp_path) as stage:
        receiver = Receiver()
        await stage.commit([an_event(1, "parked")])
        pace = replace(PACE, remembered_seconds=30.0)
        async with running(stage.dispatcher(receiver.handler, pace=pace, retry={"base": "10m"})):
            await asyncio.sleep(2)
            await pause(stage)
            await asyncio.sleep(OBEYED_SECONDS)
            receiver.away = False
            elsewhere = Stage(stage.database, stage.clock)  # what this process stores itself it remembers
            await elsewhere.commit([an_event(number, "old") for number in range(2, 20)])
            await asyncio.sleep(10)
            lost: list[int] = []
            now = stage.clock() + timedelta(days=1000)
            retention = Retention(
                stage.database,
                timedelta(days=1),
                ["h"],
                lambda: now,
                count_skipped=lambda _, count: lost.append(count),
            )
            purging = asyncio.create_task(retention.purge())
            await asyncio.sleep(60)
            assert await purging == 19
            await stage.commit([an_event(20, "new")])

            await resume(stage)
            await asyncio.sleep(OBEYED_SECONDS + 2)
            found = await balanced(stage)
        assert receiver.handler.positions == [20]
        assert lost == [19]
        assert (found.position, found.passed.skipped, found.passed.deleted) == (20, 18, 1)


@pytest.mark.parametrize(("batch", "share"), [(1, 0.0), (1, 0.3), (10, 0.0)], ids=["singly", "some fail", "batches"])
def test_a_rate_is_kept(tmp_path: Path, batch: int, share: float) -> None:
    """In no second are more events tried than it says, and the few of a burst; and it is made use of."""

    @in_virtual_time
    async def run() -> None:
        async with on_stage(tmp_path) as stage:
            receiver = Receiver()
            receiver.away = False
            receiver.bad = set(range(1, int(300 * share)))
            await stage.commit([an_event(number, f"d{number}") for number in range(300)])
            dispatcher = stage.dispatcher(
                receiver.handler, pace=PACE, rate="100/s", batch={"events": batch, "wait": "10ms"}, concurrency=4
            )
            async with running(dispatcher):
                await asyncio.sleep(2.5)
                assert len(receiver.asked) >= 230
                receiver.bad.clear()
                await asyncio.sleep(30)
                assert (await balanced(stage)).position == 300
            times = [at for at, _ in receiver.asked]
            for begin in times:
                assert sum(begin <= at < begin + 1.0 for at in times) <= 100 + 5 + batch

    run()


@in_virtual_time
async def test_a_slow_rate_does_not_stop_the_cursor_behind_a_failing_device(tmp_path: Path) -> None:
    """Between two deliveries of a second each, what waits behind a failed event is passed as ever."""
    async with on_stage(tmp_path) as stage:

        async def behave(event: Event) -> None:
            await asyncio.sleep(0.3)
            if event.position == 1:
                raise ValueError

        handler = Recorder(behave)
        mixed = [an_event(number, "bad" if number % 2 else f"d{number}") for number in range(1, 41)]
        await stage.commit(mixed)
        async with running(stage.dispatcher(handler, pace=PACE, rate="1/s", retry={"base": "10m"})):
            await asyncio.sleep(10)
            assert handler.tried == sorted(handler.tried), "the first in line is tried first"
            assert (await balanced(stage)).position >= 15
            await asyncio.sleep(20)
            assert (await balanced(stage)).position == 40
        assert len(handler.positions) == 20
