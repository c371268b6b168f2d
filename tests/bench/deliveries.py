"""Deliveries of an `http` handler: as many as the bare client posts, and no fewer beside what fails."""

from __future__ import annotations

import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.bare_client import bare_client
from tests.bench.cost import Measured, children_seconds, cost, cpu_seconds, median
from tests.bench.load import Loader
from tests.bench.sizes import Sizes
from tests.bench.stores import SQLITE, Stores
from tests.bench.subjects import Anchor, anchor, headrace
from tests.bench.table import Figure, rate
from tests.bench.turns import all_in_turns
from tests.support.deliveries.receiver import SECRET
from tests.support.server import wait_until

CONCURRENCY = 64
LEAST_OF_CLIENT = 0.8
_PREFILL_BATCH = 500
HANDLER = """
[handlers.sink]
type = "http"
url = "{url}/events"
secrets = ["{secret}"]
from = "beginning"
concurrency = {concurrency}
"""


class Deliveries:
    """What is measured of `http` handlers; the receiver is a process of its own."""

    def __init__(self, folder: Path, sizes: Sizes, loader: Loader, stores: Stores) -> None:
        self._folder = folder
        self._sizes = sizes
        self._loader = loader
        self._stores = stores

    def figures(self) -> Iterator[Figure]:
        """Rate and cost beside the bare client."""
        subjects = {"http": self.of_backlog, "bare": self.bare}
        found = {name: median(turns) for name, turns in all_in_turns(subjects, self._sizes.rounds).items()}
        what, client = f"http deliveries at {CONCURRENCY}, {SQLITE}", "aiohttp posting the same requests"
        yield rate(what, found["http"].per_second, client, found["bare"].per_second, LEAST_OF_CLIENT)
        yield cost(what, found["http"], client, found["bare"])

    def bare(self) -> Measured:
        """Measure the client that posts requests which lie ready."""
        with self._receiver() as receiver:
            return bare_client(f"{receiver.url}/events", self._sizes.delivered, CONCURRENCY)

    def of_backlog(self) -> Measured:
        """Measure a handler that begins before the first of many events, from the first delivery to the last."""
        with self._stores.fresh(SQLITE) as url, self._receiver() as receiver:
            with self._here() as folder, headrace(folder, url) as server:
                self._loader.send(server.url, count=self._sizes.delivered, batch=_PREFILL_BATCH, connections=8)
            handler = HANDLER.format(url=receiver.url, secret=SECRET, concurrency=CONCURRENCY)
            with self._here() as folder, headrace(folder, url, handler=handler) as server:
                return delivered(receiver, server.pid, self._sizes.delivered)

    @contextmanager
    def _receiver(self) -> Iterator[Anchor]:
        with anchor("counting", self._folder) as receiver:
            yield receiver

    @contextmanager
    def _here(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            yield Path(folder)


def delivered(receiver: Anchor, pid: int, events: int) -> Measured:
    """Measure what a receiver counts from the first thousandth of all deliveries on, and what `pid` spends on it."""
    wait_until(lambda: count(receiver) > events // 1000, 60, "nothing is delivered")
    first, began = count(receiver), time.monotonic()
    loop, writer = cpu_seconds(pid), children_seconds(pid)
    wait_until(
        lambda: count(receiver) >= events, 600, lambda: f"only {count(receiver)} of {events} are delivered", 0.05
    )
    taken, came = time.monotonic() - began, count(receiver) - first
    loop, writer = cpu_seconds(pid) - loop, children_seconds(pid) - writer
    return Measured(came / taken, loop / came * 1e6, writer / came * 1e6)


def count(receiver: Anchor) -> int:
    """Return how many deliveries have come."""
    with urllib.request.urlopen(receiver.url, timeout=20) as answer:
        return int(answer.read())
