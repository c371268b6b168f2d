"""The SSE source: streams that we open and listen to, and an exact account of when nobody listened.

Upstream keeps nothing for us and sends nothing again. The rooms of `ingest.sources.sse` do the work; here they are put
together, watched, and asked how they do.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import urlsplit

import httpx

from ingest.event import Origin
from ingest.intake import SourceIntake
from ingest.metrics import Metrics
from ingest.protocols import Coverage, FrameFormat
from ingest.reconnect import OpenBudget
from ingest.source_health import Condition, LastSeen, SourceHealth
from ingest.sources.sse.connection import Connection, Wire
from ingest.sources.sse.opening import make_client
from ingest.sources.sse.recorder import Recorder
from ingest.sources.sse.rules import StreamRules
from ingest.sources.sse.stream import Stream
from ingest.sources.sse.watch import Watch
from ingest.times import elapsed

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class SseRules:
    """The stream that is listened to. `token` gives the present one; durations in seconds.

    `connect` is how long making a connection may take, `pause` how long a stop waits for what was read.
    """

    url: str
    token: Callable[[], str] | None
    idle: float = 20.0
    streams: int = 1
    connect: float = 10.0
    pause: float = 3.0
    stream: StreamRules = field(default_factory=StreamRules)


class SseSource:
    """protocols.Source for one URL, with one or several connections to it. `budget` is shared by the process."""

    def __init__(
        self,
        origin: Origin,
        rules: SseRules,
        format_: FrameFormat,
        intake: SourceIntake,
        coverage: Coverage,
        budget: OpenBudget,
        metrics: Metrics,
        now: Callable[[], datetime],
        clock: Callable[[], float] = elapsed,
    ) -> None:
        self._origin = origin
        self._rules = rules
        self._format = format_
        self._intake = intake
        self._budget = budget
        self._now = now
        self._clock = clock
        self._recorder = Recorder(origin, coverage, rules.stream.record, clock)
        self._watch = Watch(self._connections, rules.stream, clock)
        self._streams: list[Stream] = []
        self._paused = asyncio.Event()
        self._health = SourceHealth(origin, lambda: [stream.state for stream in self._streams], metrics, now)

    async def run(self) -> None:
        """Listen until cancelled."""
        async with make_client(self._rules.connect, self._rules.idle) as client, asyncio.TaskGroup() as tasks:
            tasks.create_task(self._recorder.run())
            tasks.create_task(self._watch.run())
            if not self._paused.is_set():
                self._streams = [self._stream(number + 1, self._wire(client)) for number in range(self._rules.streams)]
                for stream in self._streams:
                    tasks.create_task(stream.run())

    async def pause(self) -> None:
        """Read nothing more, settle what was read, and write down until when we listened; in bounded time."""
        self._paused.set()
        for stream in self._streams:
            stream.pause()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._rules.pause):
                for stream in self._streams:
                    await stream.ended()
                await self._recorder.empty()
        for stream in self._streams:
            stream.abandon()

    def last_seen(self) -> LastSeen:
        """See protocols.Source."""
        return self._intake.last_seen()

    def condition(self) -> Condition:
        """See protocols.Source."""
        return self._health.condition()

    def _wire(self, client: httpx.AsyncClient) -> Wire:
        return Wire(
            origin=self._origin,
            client=client,
            url=self._rules.url,
            idle_seconds=self._rules.idle,
            connect_seconds=self._rules.connect,
            format=self._format,
            intake=self._intake,
            recorder=self._recorder,
            clock=self._clock,
            now=self._now,
            on_byte=self._intake.heard,
        )

    def _stream(self, number: int, wire: Wire) -> Stream:
        return Stream(
            number,
            wire,
            self._rules.stream,
            self._rules.token,
            self._budget,
            _host(self._rules.url),
            random.uniform,
            self._health.changed,
            self._health.reconnecting,
        )

    def _connections(self) -> Iterator[Connection]:
        for stream in self._streams:
            yield from stream.connections()


def _host(url: str) -> str:
    """Return host and port: whose door counts."""
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or _PORTS.get(parts.scheme, 443)}"
