"""What counters and books cost a server: beside each turn of one that follows or keeps them is a turn of one without.

Each is started for its turn on a fresh SQLite store. NDJSON is of 100,000 devices, product hooks are of a thousand.
"""

from __future__ import annotations

import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tests.bench.cost import Measured, measured, median
from tests.bench.load import Loader, Sent
from tests.bench.stores import SQLITE, Stores
from tests.bench.subjects import CHECKOUT, CONFIG, running
from tests.bench.turns import all_in_turns
from tests.support.oracle import read_metrics
from tests.support.server import Server

DEVICES = 100_000
WITHOUT, WITH = "without", "with"
_SEQUENCE = 'sequence = "/seq"\n'
_SECONDS, _WARM_SECONDS = 5.0, 1.0
_BATCH = 100
_STEADY_EVENTS, _STEADY_SECONDS = 20_000, 20.0
_FLOOD = {"batch": 50, "connections": 4}
_LAG = "headrace_auditor_lag_events"
# Books that say of themselves that all is posted wait for more.
_POSTED = "INSERT INTO cursors (handler, position, epoch) VALUES ('(books)', 1 << 60, 0)"

Send = Callable[[str, float], Sent]
Serve = Callable[[], AbstractContextManager[Server]]
Turns = Mapping[str, list["Turn"]]


class Turn(NamedTuple):
    """What a server took in, and how many events the Auditor was behind at the end."""

    measured: Measured
    behind: float


class AuditedServer:
    """Measures servers in turns."""

    def __init__(self, folder: Path, loader: Loader, stores: Stores) -> None:
        self._folder = folder
        self._loader = loader
        self._stores = stores

    def ingestion(self, rounds: int) -> Iterator[str]:
        """Measure what is taken in as fast as it is answered, without and with a `sequence`."""
        for what, send in {"NDJSON of 100": self._batches, "product hooks": self._loader.hooks}.items():
            yield from _compared(what, self._in_turns(send, {WITHOUT: self._served, WITH: self._followed}, rounds))

    def books(self, rounds: int) -> Iterator[str]:
        """Measure the same without books and with them."""
        subjects = {WITHOUT: self._without_books, WITH: self._served}
        yield from _compared("NDJSON of 50 by four", self._in_turns(self._flood, subjects, rounds))

    def steady(self, rounds: int) -> Iterator[str]:
        """Look once a second how far the Auditor is behind a steady rate."""
        rate = _STEADY_EVENTS / _BATCH
        for _ in range(rounds):
            with self._followed() as server, ThreadPoolExecutor(1) as sender:
                send = partial(self._loader.counted, server.url, batch=_BATCH, devices=DEVICES, rate=rate)
                sent, lags = sender.submit(send, seconds=_STEADY_SECONDS), []
                while not sent.done():
                    lags.append(_lag(server))
                    time.sleep(1)
                report = sent.result()
                events = report.events_per_second
                yield f"{events:,.0f}/s: at most {max(lags):,.0f} behind, p99 to 204 {report.p99 * 1000:.1f} ms"

    def _in_turns(self, send: Send, subjects: Mapping[str, Serve], rounds: int) -> Turns:
        return all_in_turns({name: partial(self._turn, name, send, serve) for name, serve in subjects.items()}, rounds)

    def _turn(self, name: str, send: Send, serve: Serve) -> Turn:
        with serve() as server:
            send(server.url, _WARM_SECONDS)
            turn = Turn(measured(server.pid, lambda: send(server.url, _SECONDS)), _lag(server))
        print(f"{name}: {turn.measured}, {turn.behind:,.0f} behind", file=sys.stderr)
        return turn

    def _batches(self, url: str, seconds: float) -> Sent:
        return self._counted(url, seconds, batch=_BATCH)

    def _flood(self, url: str, seconds: float) -> Sent:
        return self._counted(url, seconds, **_FLOOD)

    def _counted(self, url: str, seconds: float, **rest: int) -> Sent:
        report = self._loader.counted(url, seconds=seconds, devices=DEVICES, **rest)
        return Sent(report.answers["204"] * rest["batch"], report.seconds)

    @contextmanager
    def _served(self, of_source: str = "", before: str = "") -> Iterator[Server]:
        """Serve a fresh store; `of_source` is in the source's table, `before` is run on the store first."""
        with self._stores.fresh(SQLITE) as url, tempfile.TemporaryDirectory(dir=self._folder) as folder:
            server = Server(Path(folder), CONFIG.format(url=url) + of_source, environment=running(CHECKOUT))
            if before:
                server.migrate()
                with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection, connection:
                    connection.execute(before)
            with server:
                yield server

    def _followed(self) -> AbstractContextManager[Server]:
        return self._served(_SEQUENCE)

    def _without_books(self) -> AbstractContextManager[Server]:
        return self._served(before=_POSTED)


def _lag(server: Server) -> float:
    return dict(read_metrics(server.url))[_LAG]


def _compared(what: str, found: Turns) -> Iterator[str]:
    ours, theirs = (median([turn.measured for turn in found[name]]) for name in (WITH, WITHOUT))
    behind = max(turn.behind for turn in found[WITH])
    ratio = ours.per_second / theirs.per_second
    yield f"{what}: {ours} against {theirs} {WITHOUT}, {ratio:.2f} ×; {behind:,.0f} behind"
