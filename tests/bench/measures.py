"""What is measured of a checkout's Headrace, each time on a fresh store that is gone afterwards."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.bench.cost import Measured, measured
from tests.bench.load import Loader
from tests.bench.sizes import Sizes
from tests.bench.store_rate import StoreRate, store_rate
from tests.bench.stores import SQLITE, Stores
from tests.bench.subjects import CHECKOUT, headrace, marking_handler, read_marks
from tests.support.ledger import Report
from tests.support.server import Server, wait_until

_WARM_SECONDS = 1.0
_PREFILL_BATCH = 500
_PREFILL_CONNECTIONS = 8
_MEMORY_BATCH = 10
_MEMORY_SAMPLES = 10
_RESIDENT = re.compile(r"VmRSS:\s+(\d+) kB")


class Measures:
    """Measures one thing at a time. A store's kind is one of `tests.bench.stores`."""

    def __init__(self, folder: Path, sizes: Sizes, loader: Loader, stores: Stores) -> None:
        self._folder = folder
        self._sizes = sizes
        self._loader = loader
        self._stores = stores

    def batches(self, kind: str, checkout: Path = CHECKOUT) -> Measured:
        """Measure NDJSON in batches of 100."""
        with self._running(kind, checkout) as server:
            self._loader.batches(server.url, _WARM_SECONDS)
            return measured(server.pid, partial(self._loader.batches, server.url, self._sizes.seconds))

    def store_alone(self, kind: str, batch: int) -> StoreRate:
        """Measure the store without HTTP or decoding."""
        with self._stores.fresh(kind) as url:
            return store_rate(url, batch, self._sizes.stored)

    def latency(self, kind: str, per_second: float, checkout: Path = CHECKOUT) -> Report:
        """Measure what product hooks at a steady rate see, each timed from when it was due."""
        with self._running(kind, checkout) as server:
            self._loader.hooks_at(server.url, per_second, _WARM_SECONDS)
            return self._loader.hooks_at(server.url, per_second, self._sizes.seconds * 2)

    def memory(self, checkout: Path = CHECKOUT) -> tuple[float, float]:
        """Return MiB after the first tenth of many events into SQLite, and the largest change from there on."""
        samples = []
        with self._running(SQLITE, checkout) as server:
            for _ in range(_MEMORY_SAMPLES + 1):
                count = self._sizes.resident // _MEMORY_SAMPLES
                self._loader.send(server.url, count=count, batch=_MEMORY_BATCH)
                samples.append(resident_bytes(server.pid))
        return samples[0] / 2**20, max((sample / samples[0] - 1 for sample in samples[1:]), key=abs)

    def dispatch_of_backlog(self, kind: str, checkout: Path = CHECKOUT) -> Measured:
        """Measure what goes to a no-op Python handler that begins at the first event of a full store."""
        with self._stored(kind) as (folder, url):
            with headrace(folder, url, checkout) as server:
                self._fill(server)
            handler = marking_handler(folder, "beginning", self._sizes.dispatched)
            with headrace(folder, url, checkout, handler):
                return self._dispatched(folder)

    def dispatch_live(self, kind: str, checkout: Path = CHECKOUT) -> Measured:
        """Measure the same while the events come in."""
        with self._stored(kind) as (folder, url):
            handler = marking_handler(folder, "now", self._sizes.dispatched)
            with headrace(folder, url, checkout, handler) as server:
                self._fill(server)
                return self._dispatched(folder)

    def _dispatched(self, folder: Path) -> Measured:
        """Return what it was from the first event to the last, when that has come."""
        events = self._sizes.dispatched
        wait_until(lambda: len(read_marks(folder)) == 2, 600, f"{events} are not dispatched")
        (began, cost), (ended, spent) = read_marks(folder)
        return Measured(events / (ended - began), (spent - cost) / events * 1e6, 0.0)

    def _fill(self, server: Server) -> None:
        """Store the events that are to be dispatched, quickly."""
        count = self._sizes.dispatched
        self._loader.send(server.url, count=count, batch=_PREFILL_BATCH, connections=_PREFILL_CONNECTIONS)

    @contextmanager
    def _running(self, kind: str, checkout: Path) -> Iterator[Server]:
        with self._stored(kind) as (folder, url), headrace(folder, url, checkout) as server:
            yield server

    @contextmanager
    def _stored(self, kind: str) -> Iterator[tuple[Path, str]]:
        with tempfile.TemporaryDirectory(dir=self._folder) as folder, self._stores.fresh(kind) as url:
            yield Path(folder), url


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process."""
    match = _RESIDENT.search(Path(f"/proc/{pid}/status").read_text())
    assert match is not None
    return int(match[1]) * 1024
