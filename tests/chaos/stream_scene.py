"""A server that consumes a stream, the upstream it consumes, and what is done to both."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.stream_schedule import AWAY, KILL, Step
from tests.support.exactness import Hit
from tests.support.observed import newest_number
from tests.support.postgres import own_server
from tests.support.server import Server, wait_until
from tests.support.upstream.running import RunningUpstream

IDLE_SECONDS = 2.0
KEEP_ALIVE_SECONDS = 0.5
PAUSE_SECONDS = (0.01, 0.02)
TOKEN = "chaos-token"
RECOVERY_SECONDS = 100.0  # the longest wait between two attempts is a minute
_LOOK_SECONDS = 0.02
_CONFIG = """
[store]
url = "{store}"
inbox_events = {inbox_events}

[sources.fleet]
product = "tracker"
mode = {mode}

[sources.fleet.sse]
url = "{stream}"
token = "{token}"
idle_timeout = "{idle:g}s"
streams = {streams}
"""


def stream_server(
    store: str,
    folder: Path,
    stream: str,
    *,
    streams: int = 1,
    mode: str = '"sse"',
    inbox_events: int = 20_000,
    losses: Sequence[str] = (),
) -> Server:
    """A server on a fresh store with one source; not started yet."""
    config = _CONFIG.format(
        store=store,
        inbox_events=inbox_events,
        mode=mode,
        stream=stream,
        token=TOKEN,
        idle=IDLE_SECONDS,
        streams=streams,
    )
    server = Server(folder, config, losses=losses)
    if not store.startswith("sqlite:"):
        server.migrate()
    return server


@dataclass
class Scene:
    """Strikes the steps of a schedule, each after events flow again, and writes down when each fault lasted."""

    server: Server
    upstream: RunningUpstream
    store: str
    streams: int = 1
    hits: list[Hit] = field(default_factory=list)

    def begin(self) -> float:
        """Publish from the moment when all streams hear; returns when that was."""
        self.upstream.wait_for(
            lambda: self.upstream.hearing() == self.streams,
            RECOVERY_SECONDS,
            f"the streams do not open\n{self.server.log_tail()}",
        )
        began = time.time()
        self.upstream.pace(PAUSE_SECONDS)
        return began

    def end(self) -> float:
        """See events flow, then publish no more, and wait until the last event is stored; returns when that was."""
        self.settle()
        self.upstream.pace(None)
        self._wait(self._all_stored, lambda: f"not all that was sent last is stored\n{self.server.log_tail()}")
        return time.time()

    def settle(self, after: float = 0.0, fresh: int | None = None) -> float:
        """Wait until all streams hear, `fresh` of them newly since `after`, and an event sent from then on is stored.

        Returns when that was.
        """
        wanted = self.streams if fresh is None else fresh
        self.upstream.wait_for(
            lambda: self.upstream.hearing() >= self.streams and self.upstream.hearing(after) >= wanted,
            RECOVERY_SECONDS,
            f"no stream is open again\n{self.server.log_tail()}",
        )
        target = self.upstream.newest + 1
        self._wait(
            lambda: newest_number(self.server.url, self.upstream.plan.run) >= target,
            lambda: f"no event is stored any more\n{self.server.log_tail()}",
        )
        return time.time()

    def play(self, steps: Sequence[Step]) -> None:
        """Strike one fault after the other."""
        for step in steps:
            pause(step.rest_seconds)
            began = time.time()
            self._strike(step)
            if step.kind == AWAY:
                until = self.settle(fresh=0)
            else:
                victims = 1 if step.fault and step.fault.streams != "all" else self.streams
                until = self.settle(began, victims)
            self.hits.append(Hit(step.kind, began, until))

    def _strike(self, step: Step) -> None:
        if step.kind == KILL:
            self.server.kill()
            self.server.start()
        elif step.kind == AWAY:
            with store_away(self.store):
                pause(step.seconds)
        else:
            assert step.fault is not None
            self.upstream.fault(step.fault)

    def _all_stored(self) -> bool:
        return newest_number(self.server.url, self.upstream.plan.run) == self.upstream.newest

    def _wait(self, condition: Callable[[], bool], failure: Callable[[], str]) -> None:
        wait_until(condition, RECOVERY_SECONDS, failure, every=_LOOK_SECONDS)


@contextmanager
def store_away(store: str) -> Iterator[None]:
    """Nothing can be committed inside the block: SQLite is locked by another connection, PostgreSQL is down."""
    if not store.startswith("sqlite:"):
        with own_server().outage():
            yield
        return
    path = store.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        try:
            yield
        finally:
            other.execute("ROLLBACK")


def pause(seconds: float) -> None:
    """Let a fault, or the rest between two, last so long."""
    until = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() >= until, seconds + 5, "time stands still")
