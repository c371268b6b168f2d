"""A server that pulls a subscription, and an oracle that publishes to its topic while things go wrong."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import asyncpg

from tests.chaos.scene import store_of
from tests.support import database
from tests.support.emulator import Published, Queue, new_queue
from tests.support.ledger import Ledger
from tests.support.numbered import Numbered, number_of
from tests.support.observed import duplicates, numbered, pages
from tests.support.oracle import verify, verify_metrics
from tests.support.server import Server, wait_until

RUN = "pubsub"
LEASE_SECONDS = 10.0  # the shortest that Pub/Sub knows, and our default
_CONFIG = """
[store]
url = "{store}"

[sources.fleet]
product = "tracker"
mode = {mode}

[sources.fleet.pubsub]
subscription = "{subscription}"
streams = {streams}
"""


@dataclass
class Scene:
    """A server with one source, the queue it pulls, and the oracle's events."""

    server: Server
    queue: Queue
    store: str
    events: Numbered

    def messages(self, numbers: Sequence[int]) -> list[Published]:
        """What Particle publishes of these events."""
        return [self.events.message(number) for number in numbers]

    def publish(self, numbers: Sequence[int]) -> None:
        """All at once."""
        self.queue.publish(self.messages(numbers))

    def wait_stored(self, count: int, seconds: float = 60.0, every: float = 0.1) -> None:
        """Return when this process has stored so many; its counters add up all the while."""
        wait_until(
            lambda: self.counts()["stored"] >= count,
            seconds,
            lambda: f"not stored: {self.counts()}\n{self.server.log_tail()}",
            every,
        )

    def wait_settled(self, seconds: float = 30.0) -> dict[str, float]:
        """The counters, when nothing is in flight."""
        wait_until(lambda: self.counts()["in_flight"] == 0, seconds, lambda: f"not settled: {self.counts()}", every=0.1)
        return self.counts()

    def counts(self) -> dict[str, float]:
        """Outcomes by name, as the process counts them; they add up. `redelivery` is one of the duplicates."""
        return verify_metrics(self.server.url) | duplicates(self.server.url)

    def stored(self) -> set[int]:
        """The numbers that the service lists."""
        return {found[1] for event in pages(self.server.url, "events") if (found := numbered(event))}

    def verify(self, count: int) -> database.Contents:
        """The store holds each of so many events once, and nothing else; positions are dense, tallies fit."""
        ledger = Ledger()
        ledger.sent(0, count)
        ledger.answered(0, count, 204)
        contents = verify(self.store, {RUN: ledger})
        assert len(contents.rows) == count
        return contents

    def as_the_kill_left_it(self, folder: Path) -> database.Contents:
        """What is in the store, read without touching it: opening SQLite's file would already mend it."""
        if not self.store.startswith("sqlite:"):
            return database.read(self.store)
        folder.mkdir()
        original = Path(self.store.removeprefix("sqlite:///"))
        for file in (original, original.with_name(f"{original.name}-wal")):
            if file.exists():
                shutil.copy(file, folder)
        return database.read(f"sqlite:///{folder / original.name}")


@contextmanager
def commits_waiting(store: str) -> Iterator[None]:
    """Whoever commits inside the block waits: the writer's lock is held by somebody else."""
    if store.startswith("sqlite:"):
        with closing(sqlite3.connect(store.removeprefix("sqlite:///"), timeout=30, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            yield
        return
    with asyncio.Runner() as runner:
        other = runner.run(asyncpg.connect(store))
        try:
            runner.run(other.execute("BEGIN; LOCK TABLE head"))
            yield
        finally:
            runner.run(other.close())


def numbers_in(contents: database.Contents) -> set[int]:
    """The numbers of the stored events."""
    return {number for row in contents.rows if (number := number_in(row.data)) is not None}


def number_in(data: bytes) -> int | None:
    """The number of an event of ours; None where it is none."""
    found = number_of(data)
    return found[1] if found else None


@contextmanager
def pulling(
    kind: str, folder: Path, emulator: str, *, through: str | None = None, streams: int = 1, **subscription: Any
) -> Iterator[Scene]:
    """A running server on a fresh store that pulls a fresh subscription, by way of `through` if that is given.

    `subscription`: options as Google's API names them.
    """
    queue = new_queue(emulator, **subscription)
    with store_of(kind, folder) as store:
        server = pubsub_server(store, folder, queue, through or emulator, streams=streams)
        with server:
            yield Scene(server, queue, store, Numbered(RUN, datetime.now(UTC)))


def pubsub_server(
    store: str, folder: Path, queue: Queue, host: str, *, mode: str = '"pubsub"', streams: int = 1, more: str = ""
) -> Server:
    """A server on a store that has the newest schema; not started yet. `more` configuration goes to the end."""
    config = _CONFIG.format(store=store, mode=mode, subscription=queue.subscription, streams=streams) + more
    server = Server(folder, config, environment={"PUBSUB_EMULATOR_HOST": host})
    if not store.startswith("sqlite:"):
        server.migrate()
    return server


class Publishing:
    """Publishes messages in the background, `burst` at a time, so many per second. Leaving the block stops it."""

    def __init__(self, queue: Queue, messages: Sequence[Published], rate: float, burst: int) -> None:
        self.published = 0
        self._queue = queue
        self._messages = messages
        self._rate = rate
        self._burst = burst
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> int:
        """Publish nothing more; return how many were."""
        self._stop.set()
        self._thread.join()
        return self.published

    def wait_done(self, seconds: float = 60.0) -> None:
        """Return when all is published."""
        wait_until(lambda: self.published == len(self._messages), seconds, "not all could be published")

    def _run(self) -> None:
        began = time.monotonic()
        while self.published < len(self._messages) and not self._stop.is_set():
            burst = self._messages[self.published : self.published + self._burst]
            self._queue.publish(burst)
            self.published += len(burst)
            self._stop.wait(began + self.published / self._rate - time.monotonic())
