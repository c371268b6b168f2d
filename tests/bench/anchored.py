"""Headrace beside its anchors: an empty route, a bare application, naive code, the store alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.bench.beside import Beside
from tests.bench.cost import Measured, cost
from tests.bench.deliveries import Deliveries
from tests.bench.hooks import BARE, DIRECT, EMPTY, LEAST_OF_EMPTY, NAIVE, PROXIED, WAYS, Hooks, anchors, headrace_on
from tests.bench.load import Loader
from tests.bench.measures import Measures
from tests.bench.pulls import Pulls
from tests.bench.sizes import Sizes
from tests.bench.stores import KINDS, SQLITE, Stores
from tests.bench.streams import Streams
from tests.bench.table import Figure, rate
from tests.bench.turns import in_turns

MOST_P99_SECONDS = 0.015
LEAST_DISPATCHED = 15_000
MOST_GROWTH = 0.05
LEAST_OF_STORE = 0.9
_LEAST_HOOKS: dict[str, dict[str, float | None]] = {
    DIRECT: {EMPTY: LEAST_OF_EMPTY[DIRECT], BARE: None, NAIVE: 20.0},
    PROXIED: {EMPTY: LEAST_OF_EMPTY[PROXIED], BARE: None},
}


class Anchored:
    """One run beside the anchors."""

    def __init__(self, folder: Path, sizes: Sizes, loader: Loader, stores: Stores) -> None:
        self._durability: dict[str, str] = {}
        self._folder = folder
        self._sizes = sizes
        self._stores = stores
        self._loader = loader
        self._hooks = Hooks(folder, loader, sizes)
        self._measures = Measures(folder, sizes, loader, stores)

    def figures(self) -> Iterator[Figure]:
        """Measure everything, SQLite first."""
        subjects = anchors(BARE, EMPTY, NAIVE) | {kind: headrace_on(self._stores, kind) for kind in KINDS}
        found = self._hooks.measure(subjects)
        for kind in KINDS:
            yield from self._product_hooks(kind, found)
        for kind in KINDS:
            yield from self._batches(kind)
        for kind in KINDS:
            yield self._latency(kind, found[kind][DIRECT].per_second / 2)
        yield self._memory()
        for kind in KINDS:
            yield from self._dispatch(kind)
        for deliveries in (Deliveries, Beside):
            yield from deliveries(self._folder, self._sizes, self._loader, self._stores).figures()
        yield from Streams(self._folder, self._sizes).figures(lambda: self._store_alone(SQLITE, 100))
        with Pulls(self._folder, self._sizes) as pulls:
            yield from pulls.figures()

    def facts(self) -> list[str]:
        """Return what the figures depend on, once they are measured."""
        settings = "; ".join(f"{kind}: {found}" for kind, found in self._durability.items())
        return [f"durability: {settings}; the naive anchor: journal_mode=WAL, synchronous=FULL"]

    def _product_hooks(self, kind: str, found: Mapping[str, Mapping[str, Measured]]) -> Iterator[Figure]:
        """Make the rows about single events as the vendor sends them: the promise's price."""
        for way in WAYS:
            what = f"product hooks, {way}, {kind}"
            ours = found[kind][way]
            for name, least in (_LEAST_HOOKS[way] if kind == SQLITE else {EMPTY: None}).items():
                yield rate(what, ours.per_second, name, found[name][way].per_second, least)
            yield cost(what, ours, EMPTY, found[EMPTY][way])

    def _batches(self, kind: str) -> Iterator[Figure]:
        """Measure NDJSON beside the store itself; groups of 1,000 show what larger transactions would bring."""
        found = in_turns(
            {
                "http": lambda: self._measures.batches(kind).per_second,
                "own": lambda: self._store_alone(kind, 100),
                "grouped": lambda: self._store_alone(kind, 1000),
            },
            self._sizes.rounds,
        )
        what = f"NDJSON of 100, {kind}"
        least = LEAST_OF_STORE if kind == SQLITE else None
        yield rate(what, found["http"], "the store alone, batches of 100", found["own"], least)
        yield rate(what, found["http"], "the store alone, batches of 1,000", found["grouped"])

    def _store_alone(self, kind: str, batch: int) -> float:
        found = self._measures.store_alone(kind, batch)
        self._durability[kind] = found.durability
        return found.events_per_second

    def _latency(self, kind: str, per_second: float) -> Figure:
        report = self._measures.latency(kind, per_second)
        measured = f"{report.p99 * 1000:.1f} ms (p50 {report.p50 * 1000:.1f} ms)"
        what = f"p99 to 204 of product hooks at {per_second:,.0f}/s, half of the most, {kind}"
        if kind != SQLITE:
            return Figure(what, measured)
        return Figure(what, measured, target="≤ 15 ms", met=report.p99 <= MOST_P99_SECONDS)

    def _memory(self) -> Figure:
        mebibytes, growth = self._measures.memory()
        what = f"resident memory over {self._sizes.resident:,} events"
        return Figure(what, f"{mebibytes:.0f} MiB, {growth:+.1%}", target="± 5 %", met=abs(growth) <= MOST_GROWTH)

    def _dispatch(self, kind: str) -> Iterator[Figure]:
        """Measure dispatch to a no-op handler: of a backlog, then live beside the ingestion that feeds it."""
        what = "dispatch to a no-op Python handler"
        found = self._measures.dispatch_of_backlog(kind).per_second
        target, met = (f"≥ {LEAST_DISPATCHED:,}/s", found >= LEAST_DISPATCHED) if kind == SQLITE else ("", None)
        yield Figure(f"{what}, from the beginning, {kind}", f"{found:,.0f}/s", target=target, met=met)
        found = self._measures.dispatch_live(kind).per_second
        yield Figure(f"{what}, live, while NDJSON comes in, {kind}", f"{found:,.0f}/s")
