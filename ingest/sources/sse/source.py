"""The SSE source: streams that we open and listen to, and an exact account of when nobody listened.

Upstream keeps nothing for us and sends nothing again. The rooms of `ingest.sources.sse` do the work; here they are put
together, watched, and asked how they do.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import httpx

from ingest.errors import StoreUnavailable
from ingest.event import Origin
from ingest.intake import SourceIntake
from ingest.leases import Lease, stream_lease
from ingest.metrics import Metrics
from ingest.protocols import Coverage, FrameFormat, Leases, Opens
from ingest.retrying import wait_at_most
from ingest.source_health import Condition, LastSeen, SourceHealth, StreamState
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

    `connect` is how long making a connection may take, `pause` how long a stop waits for what was read, `relief` how
    long it waits before that for another process to listen. Each `handover` it is looked whether one does.
    """

    url: str
    token: Callable[[], str] | None
    idle: float = 20.0
    streams: int = 1
    connect: float = 10.0
    pause: float = 3.0
    relief: float = 8.0
    handover: float = 0.5
    stream: StreamRules = field(default_factory=StreamRules)


class SseSource:
    """protocols.Source for one URL, with one or several connections to it: each where this process holds its lease.

    A stream whose lease went to another process is left when that one has listened beside it for long enough. So
    nothing is missed where leases move because somebody starts or stops.
    """

    def __init__(
        self,
        origin: Origin,
        rules: SseRules,
        format_: FrameFormat,
        intake: SourceIntake,
        coverage: Coverage,
        leases: Leases,
        opens: Opens,
        metrics: Metrics,
        now: Callable[[], datetime],
        clock: Callable[[], float] = elapsed,
    ) -> None:
        self._origin = origin
        self._rules = rules
        self._format = format_
        self._intake = intake
        self._coverage = coverage
        self._leases = leases
        self._opens = opens
        self._now = now
        self._clock = clock
        self._recorder = Recorder(origin, coverage, rules.stream.record, clock)
        self._watch = Watch(self._connections, rules.stream, clock)
        self._streams: dict[int, Stream] = {}
        self._paused = asyncio.Event()
        self._left = asyncio.Event()  # a stream, just now
        self._health = SourceHealth(origin, self._states, metrics, now)

    async def run(self) -> None:
        """Listen until cancelled."""
        async with make_client(self._rules.connect, self._rules.idle) as client, asyncio.TaskGroup() as tasks:
            tasks.create_task(self._recorder.run())
            tasks.create_task(self._watch.run())
            if not self._paused.is_set():
                self._streams.clear()
            wire = self._wire(client)
            for number in range(1, self._rules.streams + 1):
                tasks.create_task(self._keep_stream(number, wire))

    async def pause(self) -> None:
        """Read nothing more, settle what was read, and write down until when we listened; in bounded time."""
        await self._hand_over()
        self._paused.set()
        for stream in self._streams.values():
            stream.pause()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._rules.pause):
                for stream in list(self._streams.values()):
                    await stream.ended()
                await self._recorder.empty()
        for stream in self._streams.values():
            stream.abandon()

    def last_seen(self) -> LastSeen:
        """See protocols.Source."""
        return self._intake.last_seen()

    def condition(self) -> Condition:
        """See protocols.Source."""
        if not self._streams and not self._paused.is_set():
            return Condition(up=False, standby=True, reason="another process listens")
        return self._health.condition()

    async def _keep_stream(self, number: int, wire: Wire) -> None:
        """Listen while the lease is ours, and until another process does in our place."""
        lease = self._leases.lease(stream_lease(self._origin.source, number))
        while not self._paused.is_set():
            await _first_of(lease.acquired(), self._paused.wait())
            if self._paused.is_set():
                return
            stream = self._streams[number] = self._stream(number, wire)
            leaving = asyncio.create_task(self._leave_when_relieved(lease, stream, number))
            try:
                await stream.run()
            finally:
                leaving.cancel()
            if not self._paused.is_set():
                del self._streams[number]
                self._health.changed()
                self._left.set()

    async def _leave_when_relieved(self, lease: Lease, stream: Stream, number: int) -> None:
        while True:
            await lease.lost()
            await asyncio.sleep(self._rules.handover)
            with suppress(StoreUnavailable):
                if not lease.held and await self._coverage.is_relieved(self._origin, number):
                    stream.pause()
                    return

    async def _hand_over(self) -> None:
        """Wait for a while until others listen to our streams, where there are others."""
        until = self._clock() + self._rules.relief
        while self._streams and self._leases.peers and self._clock() < until:
            self._left.clear()
            await wait_at_most(self._left, self._rules.handover)

    def _states(self) -> list[StreamState]:
        return [stream.state for _, stream in sorted(self._streams.items())]

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
            on_end=self._watch.wake,
            greeting=min(self._rules.stream.greeting, self._rules.idle / 2),
        )

    def _stream(self, number: int, wire: Wire) -> Stream:
        return Stream(
            number,
            wire,
            self._rules.stream,
            self._rules.token,
            self._opens,
            _host(self._rules.url),
            random.uniform,
            self._health.changed,
            self._health.reconnecting,
        )

    def _connections(self) -> Iterator[Connection]:
        for stream in tuple(self._streams.values()):
            yield from stream.connections()


async def _first_of(*waits: Coroutine[Any, Any, object]) -> None:
    """Return when one of them does; the others are cancelled."""
    tasks = [asyncio.create_task(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


def _host(url: str) -> str:
    """Return host and port: whose door counts."""
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or _PORTS.get(parts.scheme, 443)}"
