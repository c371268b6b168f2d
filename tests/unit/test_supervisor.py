"""Sources are kept running, one by one, and what they do can be read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from itertools import pairwise

import pytest
from prometheus_client import CollectorRegistry

from ingest.event import Origin
from ingest.metrics import Metrics
from ingest.retrying import Draw
from ingest.source_health import Condition, LastSeen, StreamState
from ingest.supervisor import State, Supervised, Supervisor
from tests.support.records import NOW
from tests.support.virtual_time import in_virtual_time, virtual_loop

LABELS = {"source": "fleet", "mode": "webhook"}


class Scripted:
    """protocols.Source whose runs fail, end or last as the script says."""

    def __init__(self, *script: Exception | str) -> None:
        self._script = iter(script)
        self.runs = 0
        self.paused = False
        self.tells = Condition(up=True)
        self.ended = asyncio.Event()

    async def run(self) -> None:
        """See protocols.Source."""
        self.runs += 1
        step = next(self._script, "last")
        if isinstance(step, Exception):
            raise step
        if step == "last":
            self.ended.set()
            await asyncio.Event().wait()
        if step == "until paused":
            while not self.paused:  # noqa: ASYNC110 - a script, not a source
                await asyncio.sleep(0)
            raise ConnectionError("closed by us")

    async def pause(self) -> None:
        """See protocols.Source."""
        self.paused = True

    def last_seen(self) -> LastSeen:
        """See protocols.Source."""
        return LastSeen(NOW, None)

    def condition(self) -> Condition:
        """See protocols.Source."""
        return self.tells


def supervised(label: str, source: Scripted) -> Supervised:
    """A webhook's place in the supervisor."""
    return Supervised(Origin("tracker", label, "webhook"), source)


def longest(_least: float, most: float) -> float:
    """Draw what leaves the most time."""
    return most


def make(
    *sources: Scripted, clock: Callable[[], datetime] = lambda: NOW, draw: Draw = longest
) -> tuple[Supervisor, Metrics]:
    """A supervisor of sources `fleet`, `fleet1`, …"""
    metrics = Metrics(CollectorRegistry())
    labels = ["fleet", *(f"fleet{number}" for number in range(1, len(sources)))]
    for label in labels:
        metrics.declare_source(label, "webhook")
    return Supervisor([supervised(*pair) for pair in zip(labels, sources, strict=True)], metrics, clock, draw), metrics


@asynccontextmanager
async def running(supervisor: Supervisor) -> AsyncIterator[asyncio.Task[None]]:
    """Run it for the length of the block."""
    task = asyncio.create_task(supervisor.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], bool]) -> None:
    """Let the tasks go on until it holds."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - the states of a supervisor are there to be read, not to be awaited
            await asyncio.sleep(0)


async def test_a_source_that_cannot_be_paused_leaves_no_other_one_running() -> None:
    """All have been paused when its error is raised, also one that takes longer than it to fail."""

    class Fails(Scripted):
        async def pause(self) -> None:
            raise OSError("gone")

    class IsSlow(Scripted):
        async def pause(self) -> None:
            for _ in range(10):
                await asyncio.sleep(0)
            await super().pause()

    slow = IsSlow()
    supervisor, _ = make(slow, Fails(), last := Scripted())

    with pytest.raises(OSError, match="gone"):
        await supervisor.pause()
    assert slow.paused
    assert last.paused


@in_virtual_time
async def test_a_source_that_fails_is_run_again() -> None:
    """Whatever a source raises, it is started again, and its neighbour never notices."""
    failing, steady = Scripted(ValueError("odd"), OSError("gone"), "ends"), Scripted()
    supervisor, _ = make(failing, steady)

    async with running(supervisor), asyncio.timeout(60):
        await failing.ended.wait()
        assert (failing.runs, steady.runs) == (4, 1)
        assert [status.state for status in supervisor.statuses()] == [State.RUNNING, State.RUNNING]


async def test_a_failed_source_says_why_and_is_down() -> None:
    """Between a failure and the next try the state is `failed` with the reason, and the gauge is 0."""
    supervisor, metrics = make(Scripted(OSError("no route to host")))

    async with running(supervisor), asyncio.timeout(5):
        await until(lambda: supervisor.statuses()[0].state is State.FAILED)
        status = supervisor.statuses()[0]
        assert (status.source, status.mode, status.product) == ("fleet", "webhook", "tracker")
        assert status.reason == "OSError: no route to host"
        assert (status.last_event_at, status.last_byte_at) == (NOW, None)
        assert metrics.registry.get_sample_value("headrace_source_up", LABELS) == 0


async def test_states_and_the_gauge_follow_the_source() -> None:
    """Starting is not up, running is, draining is not."""
    supervisor, metrics = make(Scripted())

    def up() -> tuple[State, float | None]:
        return supervisor.statuses()[0].state, metrics.registry.get_sample_value("headrace_source_up", LABELS)

    assert up() == (State.STARTING, 0)
    async with running(supervisor):
        await until(lambda: up() == (State.RUNNING, 1))
        await supervisor.pause()
        assert up() == (State.DRAINING, 0)


async def test_a_source_that_ends_while_draining_is_not_started_again() -> None:
    """After the pause nothing new is taken: a source that fails then stays down."""
    source = Scripted("until paused")
    supervisor, _ = make(source)

    async with running(supervisor) as task, asyncio.timeout(5):
        await until(lambda: source.runs > 0)
        await supervisor.pause()
        await task
    assert source.runs == 1
    assert supervisor.statuses()[0].state is State.DRAINING


async def test_a_source_that_runs_and_cannot_receive_is_down() -> None:
    """It says so itself, with its reason and since when; then the gauge is 0."""
    source = Scripted()
    supervisor, metrics = make(source)
    earlier = NOW - timedelta(minutes=5)
    streams = (StreamState(1, "waiting", NOW),)
    source.tells = Condition(False, earlier, "connection refused", streams)

    assert supervisor.statuses()[0].state is State.STARTING
    async with running(supervisor):
        await source.ended.wait()
        status = supervisor.statuses()[0]
        assert (status.state, status.since, status.reason) == (State.DOWN, earlier, "connection refused")
        assert status.streams == streams
        assert metrics.registry.get_sample_value("headrace_source_up", LABELS) == 0
        source.tells = Condition(True, NOW)
        assert supervisor.statuses()[0].state is State.RUNNING
        assert metrics.registry.get_sample_value("headrace_source_up", LABELS) == 1


async def test_a_source_that_stands_by_is_not_down() -> None:
    """Another process receives for it: it is not up here, and that is no fault."""
    source = Scripted()
    source.tells = Condition(up=False, standby=True, reason="another process listens")
    supervisor, _ = make(source)
    async with running(supervisor):
        await source.ended.wait()
        (status,) = supervisor.statuses()
        assert (status.state, status.reason) == (State.STANDBY, "another process listens")


@in_virtual_time
async def test_pauses_grow_to_a_minute_and_not_beyond() -> None:
    """However long a bad night is, the next try comes within a minute; a long good run begins anew."""
    loop = virtual_loop()
    began: list[float] = []

    class LongRun(Scripted):
        async def run(self) -> None:
            began.append(loop.time())
            if len(began) == 1501:
                await asyncio.sleep(3600)
            await super().run()

    source = LongRun(*["ends"] * 1502)
    supervisor, _ = make(source, clock=lambda: NOW + timedelta(seconds=loop.time()))
    async with running(supervisor):
        await source.ended.wait()

    pauses = [after - before for before, after in pairwise(began)]
    assert pauses[:7] == pytest.approx([2, 4, 8, 16, 32, 60, 60])
    assert pauses[7:1500] == pytest.approx([60] * 1493)
    assert pauses[1500:] == pytest.approx([3602, 4])


@in_virtual_time
async def test_pauses_are_drawn_so_that_sources_do_not_begin_together() -> None:
    """From a second up to what the pause has grown to."""
    drawn: list[tuple[float, float]] = []

    def shortest(least: float, most: float) -> float:
        drawn.append((least, most))
        return least

    source = Scripted(*["ends"] * 3)
    began = virtual_loop().time()
    supervisor, _ = make(source, draw=shortest)
    async with running(supervisor):
        await source.ended.wait()
    assert drawn == [(1, 2), (1, 4), (1, 8)]
    assert virtual_loop().time() - began == pytest.approx(3)


async def test_cancelling_ends_every_source() -> None:
    """`run` lasts until it is cancelled, and takes its sources with it."""
    sources = [Scripted(), Scripted()]
    supervisor, _ = make(*sources)
    async with running(supervisor) as task:
        for source in sources:
            await source.ended.wait()
    assert task.cancelled()
