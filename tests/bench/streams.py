"""One stream into SQLite: events per second, memory over a million of them, and what a quiet one costs."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.cost import Measured, cpu_seconds, measured
from tests.bench.load import Sent
from tests.bench.measures import resident_bytes
from tests.bench.sizes import Sizes
from tests.bench.subjects import CHECKOUT, running
from tests.bench.table import Figure, rate
from tests.bench.turns import in_turns
from tests.support.losses import GAPS
from tests.support.oracle import read_metrics
from tests.support.server import Server, wait_until
from tests.support.upstream.running import RunningUpstream, upstream_plan

LEAST_SHARE = 0.8
MOST_GROWTH = 0.05
MOST_QUIET_SHARE = 0.005
_KEEP_ALIVES_SECONDS = (1.0, 10.0)
_SETTLED_SECONDS = 3.0
_SAMPLES = 10
_LOOK_SECONDS = 0.1
_PATIENCE_SECONDS = 900.0
_STORED = "headrace_events_stored_total"
_CONFIG = """
[store]
url = "{store}"

[sources.fleet]
product = "tracker"
mode = "sse"

[sources.fleet.sse]
url = "{stream}"
token = "bench"
"""


class Streams:
    """The rows about streams."""

    def __init__(self, folder: Path, sizes: Sizes) -> None:
        self._folder = folder
        self._sizes = sizes
        self._runs = itertools.count()

    def figures(self, store_rate: Callable[[], float]) -> Iterator[Figure]:
        """Rate, memory, and what quiet costs. `store_rate` measures the store alone, in batches of 100."""
        found = in_turns({"stream": lambda: self.rate().per_second, "store": store_rate}, self._sizes.rounds)
        what = f"one stream of {self._sizes.streamed:,} events, SQLite"
        yield rate(what, found["stream"], "the store alone, batches of 100", found["store"], LEAST_SHARE)
        yield self._memory()
        for seconds in _KEEP_ALIVES_SECONDS:
            yield self._quiet(seconds)

    def rate(self, checkout: Path = CHECKOUT) -> Measured:
        """Measure from the first event that is stored to the last."""
        with self._consuming(checkout, mode="flood", count=self._sizes.streamed) as server:
            wait_stored(server, 1)
            return measured(server.pid, lambda: store_the_rest(server, self._sizes.streamed))

    def _memory(self) -> Figure:
        """Resident memory after each tenth of a long stream, against the first."""
        samples = []
        with self._consuming(CHECKOUT, mode="flood", count=self._sizes.resident) as server:
            for tenth in range(1, _SAMPLES + 1):
                wait_stored(server, self._sizes.resident * tenth // _SAMPLES)
                samples.append(resident_bytes(server.pid))
        growth = max((sample / samples[0] - 1 for sample in samples), key=abs)
        what = f"resident memory over {self._sizes.resident:,} events of one stream"
        measured = f"{samples[0] / 2**20:.0f} MiB, {growth:+.1%}"
        return Figure(what, measured, target="± 5 %", met=abs(growth) <= MOST_GROWTH)

    def _quiet(self, keep_alive_seconds: float) -> Figure:
        """The share of a core that a process with one stream takes while nothing but keep-alives comes."""
        rules = {"keep_alive_seconds": keep_alive_seconds}
        with self._consuming(CHECKOUT, mode="quiet", rules=rules) as server:
            pass_seconds(_SETTLED_SECONDS)
            before = cpu_seconds(server.pid)
            pass_seconds(self._sizes.quiet_seconds)
            share = (cpu_seconds(server.pid) - before) / self._sizes.quiet_seconds
        what = f"a quiet stream, a keep-alive each {keep_alive_seconds:g} s: share of a core"
        return Figure(what, f"{share:.2%}", target=f"< {MOST_QUIET_SHARE:.1%}", met=share < MOST_QUIET_SHARE)

    @contextmanager
    def _consuming(self, checkout: Path, **plan: object) -> Iterator[Server]:
        """A server on a fresh SQLite store that consumes one stream, once it is open."""
        with tempfile.TemporaryDirectory(dir=self._folder) as name:
            folder = Path(name)
            upstream = RunningUpstream(upstream_plan(f"stream{next(self._runs):03d}", folder, **plan))
            config = _CONFIG.format(store=f"sqlite:///{folder / 'headrace.db'}", stream=upstream.url)
            # A flood may come faster than it is stored: reading stops then, and what nobody reads is a gap.
            with upstream, Server(folder, config, environment=running(checkout), losses=GAPS) as server:
                upstream.wait_for(lambda: any(upstream.opened), 30, "the stream is not opened")
                yield server


def stored(server: Server) -> float:
    """How many events are committed."""
    return sum(value for name, value in read_metrics(server.url) if name == _STORED)


def wait_stored(server: Server, events: float) -> None:
    """Return when so many are; looked at rarely, because looking costs the server time."""
    wait_until(lambda: stored(server) >= events, _PATIENCE_SECONDS, f"{events} are not stored", every=_LOOK_SECONDS)


def store_the_rest(server: Server, events: int) -> Sent:
    """Wait until so many are stored; how many came meanwhile."""
    began, first = time.monotonic(), stored(server)
    wait_stored(server, events)
    return Sent(events - int(first), time.monotonic() - began)


def pass_seconds(seconds: float) -> None:
    """What is measured here is time that passes: nothing else happens."""
    time.sleep(seconds)
