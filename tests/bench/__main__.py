"""`python -m tests.bench` prints one table of ratios, all measured in this run on this machine.

`--quick` measures briefly, to see that all of it runs; `--write` puts the table into this folder's README.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.bench import rounds
from tests.bench.load import Loader
from tests.bench.pulls import Pulls
from tests.bench.sizes import FULL, QUICK, Sizes
from tests.bench.store_rate import store_rate
from tests.bench.streams import Streams
from tests.bench.subjects import anchor, headrace
from tests.bench.table import Figure, machine, rate, show, write
from tests.support.postgres import fresh_database, session_server
from tests.support.server import Server

MOST_P99_SECONDS = 0.015
LEAST_DISPATCHED = 15_000
MOST_GROWTH = 0.05


class Bench:
    """One run: its folder, its load, its sizes, and what it found so far."""

    def __init__(self, folder: Path, sizes: Sizes) -> None:
        self.figures: list[Figure] = []
        self.durability: list[str] = []
        self._folder = folder
        self._sizes = sizes
        self.loader = Loader(folder)

    def run(self) -> None:
        """Everything, SQLite first."""
        stores = {"SQLite": f"sqlite:///{self._folder / 'headrace.db'}", "PostgreSQL": fresh_database()}
        with ExitStack() as stack:
            anchors = {name: stack.enter_context(anchor(name, self._folder)) for name in ("bare", "empty", "naive")}
            servers = {name: stack.enter_context(headrace(self._folder / name, url)) for name, url in stores.items()}
            singles = self._singles(anchors, servers)
            for name, server in servers.items():
                self._batches(name, server)
            for name, server in servers.items():
                self._latency(name, server, singles[name] / 2)
            self._memory(servers["SQLite"])
        for name in stores:
            self._dispatch(name)
        self.figures += Streams(self._folder, self._sizes, lambda: self._store_rate("SQLite", 100)).figures()
        self.figures += Pulls(self._folder, self._sizes).figures()

    def _singles(self, anchors: dict[str, str], servers: dict[str, Server]) -> dict[str, float]:
        """Single events: the promise's price."""
        urls = anchors | {name: server.url for name, server in servers.items()}
        subjects = {
            name: (lambda url=url: self.loader.single_rate(url, self._sizes.seconds)) for name, url in urls.items()
        }
        found = rounds.in_turns(subjects, self._sizes.rounds)
        for name, targets in (("SQLite", (1.2, 0.5, 20.0)), ("PostgreSQL", (None, None, None))):
            what = f"single events, {name}"
            self.figures += [
                rate(what, found[name], "empty FastAPI route", found["empty"], targets[0]),
                rate(what, found[name], "bare ASGI (goal)", found["bare"], targets[1]),
                rate(what, found[name], "naive commit per request, SQLite", found["naive"], targets[2]),
            ]
        return found

    def _batches(self, name: str, server: Server) -> None:
        """NDJSON against the store itself; groups of 1,000 show what the store could do with larger transactions."""
        found = rounds.in_turns(
            {
                "http": lambda: rounds.batch_rate(server, self.loader, self._sizes.seconds),
                "own": lambda: self._store_rate(name, 100),
                "grouped": lambda: self._store_rate(name, 1000),
            },
            self._sizes.rounds,
        )
        what = f"NDJSON of 100, {name}"
        least = 0.9 if name == "SQLite" else None
        self.figures += [
            rate(what, found["http"], "the store alone, batches of 100", found["own"], least),
            rate(what, found["http"], "the store alone, batches of 1,000", found["grouped"]),
        ]

    def _store_rate(self, name: str, batch: int) -> float:
        with self._store(name) as url:
            found = store_rate(url, batch, self._sizes.stored)
        if found.durability not in self.durability:
            self.durability.append(found.durability)
        return found.events_per_second

    @contextmanager
    def _store(self, name: str) -> Iterator[str]:
        """A database of its own. It is gone afterwards: PostgreSQL would go on tidying it up beside what comes next."""
        if name == "SQLite":
            with tempfile.TemporaryDirectory(dir=self._folder) as folder:
                yield f"sqlite:///{folder}/store.db"
            return
        url = fresh_database()
        try:
            yield url
        finally:
            session_server().drop_database(url)

    def _latency(self, name: str, server: Server, per_second: float) -> None:
        report = rounds.latency_at(server, self.loader, per_second, self._sizes.seconds * 2)
        measured = f"{report.p99 * 1000:.1f} ms (p50 {report.p50 * 1000:.1f} ms)"
        met = report.p99 <= MOST_P99_SECONDS if name == "SQLite" else None
        what = f"p99 to 204 at {per_second:,.0f}/s, half of the most, {name}"
        self.figures.append(Figure(what, measured, target="≤ 15 ms" if met is not None else "", met=met))

    def _memory(self, server: Server) -> None:
        mebibytes, growth = rounds.resident_growth(server, self.loader, self._sizes.resident)
        what = f"resident memory over {self._sizes.resident:,} events"
        measured = f"{mebibytes:.0f} MiB, {growth:+.1%}"
        self.figures.append(Figure(what, measured, target="± 5 %", met=abs(growth) <= MOST_GROWTH))

    def _dispatch(self, name: str) -> None:
        """To a no-op handler: a backlog, then live beside the ingestion that feeds it."""
        for what, measure in (
            ("from the beginning", rounds.dispatch_backlog_rate),
            ("live, while NDJSON comes in", rounds.dispatch_live_rate),
        ):
            with tempfile.TemporaryDirectory(dir=self._folder) as folder, self._store(name) as url:
                found = measure(Path(folder), url, self.loader, self._sizes.dispatched)
            target = name == "SQLite" and measure is rounds.dispatch_backlog_rate
            self.figures.append(
                Figure(
                    f"dispatch to a no-op Python handler, {what}, {name}",
                    f"{found:,.0f}/s",
                    target=f"≥ {LEAST_DISPATCHED:,}/s" if target else "",
                    met=found >= LEAST_DISPATCHED if target else None,
                )
            )


def main() -> None:
    """Run, print, and write where asked to."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="brief rounds; the figures mean little")
    parser.add_argument("--write", action="store_true", help="write the results into tests/bench/README.md")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        bench = Bench(Path(folder), QUICK if arguments.quick else FULL)
        bench.run()
        facts = [
            *machine(Path(folder)),
            f"durability: {'; '.join(bench.durability)}; the naive anchor: journal_mode=WAL, synchronous=FULL",
            f"load: 64 connections, 300-byte events; single ones by {bench.loader.name}, else the bundled driver",
        ]
    show(bench.figures, facts)
    if arguments.write:
        write(bench.figures, facts)


if __name__ == "__main__":
    main()
