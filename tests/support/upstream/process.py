"""The test upstream as a process: what it is told to do, and how it does it.

It prints one line when it listens, takes faults and paces as JSON lines on its standard input, ends with that input or
on SIGTERM, and leaves `<run>.journal` in the plan's folder. A flood leaves no entry for each event.
"""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from collections.abc import Coroutine, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import msgspec

from tests.support.numbered import Numbered
from tests.support.upstream.flood import Flood
from tests.support.upstream.journal import Journal, Paced, now
from tests.support.upstream.rules import DispatchLimits, Fault, Rules
from tests.support.upstream.server import Upstream

Command = Fault | DispatchLimits


class Scheduled(msgspec.Struct, frozen=True):
    """A fault, `after` seconds from the start."""

    after: float
    fault: Fault


class Plan(msgspec.Struct, kw_only=True):
    """What to publish, and what goes wrong.

    * `steady`: numbered events from 0 at the pace, until `count`;
    * `flood`: `count` events as fast as one stream takes them, none dropped, from the moment when it opens;
    * `quiet`: keep-alives only.
    """

    run: str
    started: datetime
    folder: str
    port: int
    mode: Literal["steady", "flood", "quiet"] = "steady"
    rules: Rules = Rules()
    count: int = 1 << 40
    devices: int = 1000
    seed: int = 1
    pause_seconds: tuple[float, float] | None = (0.01, 0.02)
    schedule: list[Scheduled] = []


class Steady:
    """Publishes one event after the other, with a random pause between any two. Pauses are caught up with."""

    def __init__(self, upstream: Upstream, plan: Plan) -> None:
        self.pause_seconds = plan.pause_seconds
        self._upstream = upstream
        self._journal = upstream.journal
        self._count = plan.count
        self._random = random.Random(plan.seed)
        self._changed = asyncio.Event()

    def change(self, pace: DispatchLimits) -> None:
        """Go on at another pace; where that is none, nothing is published after the journal says so."""
        self.pause_seconds = pace.pause_seconds
        self._journal.add(Paced(now(), pace))
        self._changed.set()

    async def run(self) -> None:
        """Publish the plan's events."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        for number in range(self._count):
            while self.pause_seconds is None or due > loop.time():
                if self.pause_seconds is None:
                    self._changed.clear()
                    await self._changed.wait()
                    due = loop.time()
                else:
                    await asyncio.sleep(due - loop.time())
            due = max(due, loop.time() - 1.0) + self._random.uniform(*self.pause_seconds)
            await self._upstream.publish(number)


async def run(plan: Plan) -> None:
    """Follow a plan until told to stop."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    journal = Journal(Path(plan.folder) / f"{plan.run}.journal")
    events = Numbered(plan.run, plan.started, plan.devices)
    commands = await _commands()
    if plan.mode == "flood":
        async with Flood(plan.rules, events, plan.count, journal).listening(plan.port):
            _tell_ready()
            await _first_of(stop.wait(), commands.read())
    else:
        async with Upstream(plan.rules, events=events, journal=journal, port=plan.port) as upstream:
            _tell_ready()
            await _play(upstream, plan, commands, stop)
    journal.close()


async def _play(upstream: Upstream, plan: Plan, commands: asyncio.StreamReader, stop: asyncio.Event) -> None:
    steady = Steady(upstream, plan)
    tasks = [asyncio.create_task(_follow(upstream, plan.schedule))]
    if plan.mode == "steady":
        tasks.append(asyncio.create_task(steady.run()))
    await _first_of(stop.wait(), _obey(commands, upstream, steady))
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _obey(commands: asyncio.StreamReader, upstream: Upstream, steady: Steady) -> None:
    """Carry out commands until there are no more."""
    async for line in commands:
        command: Command = msgspec.json.decode(line, type=Command)
        if isinstance(command, DispatchLimits):
            steady.change(command)
        else:
            await upstream.fault(command)


async def _follow(upstream: Upstream, schedule: Sequence[Scheduled]) -> None:
    """Strike each fault in its time."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    for scheduled in schedule:
        await asyncio.sleep(max(0.0, began + scheduled.after - loop.time()))
        await upstream.fault(scheduled.fault)


async def _commands() -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


async def _first_of(*waited_for: Coroutine[Any, Any, object]) -> None:
    """Return when one of them does; a fault of one is raised."""
    tasks = [asyncio.create_task(each) for each in waited_for]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    for task in done:
        task.result()


def _tell_ready() -> None:
    sys.stdout.write("listening\n")
    sys.stdout.flush()
