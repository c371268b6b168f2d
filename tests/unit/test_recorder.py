"""Intervals reach the store in the order in which they came about, however long it is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager

from ingest.event import Cause, Origin, Outcome
from ingest.sources.sse.coverage_tracker import CoverageTracker
from ingest.sources.sse.recorder import Recorder
from tests.support.recording_coverage import RecordingCoverage
from tests.support.virtual_time import in_virtual_time

ORIGIN = Origin("tracker", "fleet", "sse")
EVERY = 1.0


def prove(listening: CoverageTracker, at: float) -> None:
    """A look, and a byte after it."""
    listening.sample(at, 0, latency=0.0)
    listening.confirm(1)


class Scene:
    """A recorder that writes every second, and connections timed by a clock that the test sets."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.coverage = RecordingCoverage(clock=lambda: self.now)
        self.recorder = Recorder(ORIGIN, self.coverage, EVERY, lambda: self.now)

    def listen(self, stream: int = 1) -> CoverageTracker:
        """A connection is answered now."""
        listening = CoverageTracker(stream, self.now)
        self.recorder.add(listening)
        return listening

    async def until_written(self, *spans: tuple[float, float, Cause | None]) -> None:
        """Return when the store knows these intervals."""
        async with asyncio.timeout(5 * EVERY):
            while [(found.since, found.until, found.cause) for found in self.coverage.intervals] != list(spans):  # noqa: ASYNC110 - a table
                await asyncio.sleep(EVERY / 10)


@asynccontextmanager
async def a_scene() -> AsyncIterator[Scene]:
    """The recorder runs inside the block."""
    scene = Scene()
    running = asyncio.create_task(scene.recorder.run())
    try:
        yield scene
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@in_virtual_time
async def test_an_interval_from_its_beginning_to_its_end() -> None:
    """Opened, extended as more is proven, and ended with its cause; then nothing is left to write."""
    async with a_scene() as scene:
        listening = scene.listen()
        await scene.until_written((1000.0, 1000.0, None))
        scene.now = 1005.0
        prove(listening, 1003.0)
        await scene.until_written((1000.0, 1003.0, None))
        listening.over(Cause.IDLE)
        await scene.recorder.empty()
        await scene.until_written((1000.0, 1003.0, Cause.IDLE))


@in_virtual_time
async def test_nothing_new_is_nothing_to_write() -> None:
    """A quiet stream costs no transaction."""
    async with a_scene() as scene:
        listening = scene.listen()
        scene.now = 1001.0
        prove(listening, 1000.5)
        await scene.until_written((1000.0, 1000.5, None))
        calls = len(scene.coverage.calls)
        await asyncio.sleep(20 * EVERY)
        assert len(scene.coverage.calls) == calls


@in_virtual_time
async def test_what_happened_while_the_store_was_away_is_written_with_its_times() -> None:
    """Beginnings, ends and causes are as they were, not as late as they are written."""
    async with a_scene() as scene:
        scene.coverage.away = True
        first = scene.listen()
        scene.now = 1010.0
        prove(first, 1009.0)
        first.over(Cause.CLOSED)
        scene.now = 1020.0
        second = scene.listen()
        scene.now = 1100.0
        prove(second, 1090.0)
        await asyncio.sleep(3 * EVERY)
        scene.coverage.away = False
        await scene.until_written((1000.0, 1009.0, Cause.CLOSED), (1020.0, 1090.0, None))
        assert scene.coverage.calls == ["open", "end", "open", "extend"]


@in_virtual_time
async def test_an_end_comes_before_the_next_beginning() -> None:
    """Also where it is not known yet when the next connection is answered: what was read is still under way."""
    async with a_scene() as scene:
        first = scene.listen()
        batch: Future[Sequence[Outcome]] = Future()
        first.offered(batch)
        prove(first, 1005.0)
        scene.now = 1006.0
        first.over(Cause.ERROR)
        scene.now = 1010.0
        scene.listen()
        await asyncio.sleep(3 * EVERY)
        assert scene.coverage.calls == ["open"]
        batch.set_result([Outcome.STORED])
        await scene.until_written((1000.0, 1005.0, Cause.ERROR), (1010.0, 1010.0, None))


@in_virtual_time
async def test_two_that_overlap_do_not_wait_for_one_another() -> None:
    """A planned successor, or a second stream, is opened while the first still listens."""
    async with a_scene() as scene:
        first = scene.listen(1)
        scene.now = 1005.0
        scene.listen(2)
        await scene.until_written((1000.0, 1000.0, None), (1005.0, 1005.0, None))
        prove(first, 1004.0)
        await scene.until_written((1000.0, 1004.0, None), (1005.0, 1005.0, None))


@in_virtual_time
async def test_a_hold_is_two_intervals() -> None:
    """The first ends as overflow where the second is not yet begun."""
    async with a_scene() as scene:
        listening = scene.listen()
        prove(listening, 1005.0)
        listening.hold(1020.0)
        scene.now = 1030.0
        prove(listening, 1025.0)
        prove(listening, 1029.0)
        await scene.until_written((1000.0, 1005.0, Cause.OVERFLOW), (1025.0, 1029.0, None))


@in_virtual_time
async def test_a_fault_of_the_record_is_tried_again_like_an_outage() -> None:
    """Whatever the store raises, the recorder goes on, and writes what happened meanwhile with its times."""
    async with a_scene() as scene:
        listening = scene.listen()
        await scene.until_written((1000.0, 1000.0, None))
        scene.coverage.fault = RuntimeError("a fault of ours")
        scene.now = 1005.0
        prove(listening, 1003.0)
        await asyncio.sleep(3 * EVERY)
        scene.coverage.fault = None
        await scene.until_written((1000.0, 1003.0, None))
