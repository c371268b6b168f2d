"""This checkout against another one, in turns in one run: what a change must not cost, and what it should gain."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from tests.bench.cost import Measured, cost, median
from tests.bench.hooks import BARE, DIRECT, EMPTY, LEAST_OF_EMPTY, PROXIED, WAYS, Hooks, Serve, anchors, headrace_on
from tests.bench.load import Loader
from tests.bench.measures import Measures
from tests.bench.pulls import Pulls
from tests.bench.sizes import Sizes
from tests.bench.stores import DEBIAN, SQLITE, WHEEL, Stores
from tests.bench.streams import Streams
from tests.bench.subjects import CHECKOUT, require_checkout
from tests.bench.table import Figure, price, rate
from tests.bench.turns import T, all_in_turns

BEFORE, AFTER = "before", "after"
_LEAST = 0.95
_LEAST_DISPATCH = 0.7  # a handler has a loop and a thread of its own, so that its code can end or hold up nothing else
_LEAST_HOOKS = {DIRECT: 0.9, PROXIED: 1.1}
_MOST = 1.1


class Compared:
    """One comparison: `before` against this checkout."""

    def __init__(self, folder: Path, sizes: Sizes, loader: Loader, stores: Stores, before: Path) -> None:
        require_checkout(before)
        self._checkouts = {BEFORE: before, AFTER: CHECKOUT}
        self._folder = folder
        self._sizes = sizes
        self._stores = stores
        self._hooks = Hooks(folder, loader, sizes)
        self._measures = Measures(folder, sizes, loader, stores)

    def figures(self, names: Iterable[str]) -> Iterator[Figure]:
        """Measure what has these names in ROWS."""
        for name in names:
            yield from ROWS[name](self)

    def hooks(self) -> Iterator[Figure]:
        """Measure product hooks into SQLite beside the anchors."""
        found = self._hooks.measure(anchors(BARE, EMPTY) | self._served(SQLITE))
        for way in WAYS:
            what = f"product hooks, {way}, {SQLITE}"
            least = {BEFORE: _LEAST_HOOKS[way], EMPTY: LEAST_OF_EMPTY[way], BARE: None}
            for anchor, target in least.items():
                ours, theirs = found[AFTER][way], found[anchor][way]
                yield rate(what, ours.per_second, anchor, theirs.per_second, target)
                yield cost(what, ours, anchor, theirs)

    def hooks_on(self, kind: str) -> Iterator[Figure]:
        """Measure product hooks into PostgreSQL."""
        found = self._hooks.measure(self._served(kind))
        for way in WAYS:
            yield from _rows(f"product hooks, {way}, {kind}", {name: ways[way] for name, ways in found.items()})

    def batches(self, kind: str) -> Iterator[Figure]:
        """Measure NDJSON."""
        yield from self._rates(f"NDJSON of 100, {kind}", partial(self._measures.batches, kind))

    def stream(self) -> Iterator[Figure]:
        """Measure one stream."""
        what = f"one stream of {self._sizes.streamed:,} events, {SQLITE}"
        yield from self._rates(what, Streams(self._folder, self._sizes).rate)

    def pulls(self, streams: int) -> Iterator[Figure]:
        """Measure a subscription."""
        with Pulls(self._folder, self._sizes) as pulls:
            what = f"{streams} stream{'s' if streams > 1 else ''} of a subscription, {SQLITE}"
            yield from self._rates(what, partial(pulls.committed, streams))

    def dispatch(self, kind: str) -> Iterator[Figure]:
        """Measure dispatch to a no-op handler, of what is stored and of what comes in."""
        what = "dispatch to a no-op Python handler"
        stored, live = self._measures.dispatch_of_backlog, self._measures.dispatch_live
        yield from self._rates(f"{what}, from the beginning, {kind}", partial(stored, kind), _LEAST_DISPATCH)
        yield from self._rates(f"{what}, live, while NDJSON comes in, {kind}", partial(live, kind), _LEAST_DISPATCH)

    def latency(self, kind: str) -> Iterator[Figure]:
        """Measure p99 at half of the most that was taken before."""
        most = self._hooks.most(headrace_on(self._stores, kind, self._checkouts[BEFORE]))
        what = f"p99 to 204 of product hooks at {most / 2:,.0f}/s, {kind}"
        found = self._in_turns(what, lambda checkout: self._measures.latency(kind, most / 2, checkout).p99 * 1000)
        after, before = statistics.median(found[AFTER]), statistics.median(found[BEFORE])
        yield price(what, after, f"{after:.1f} ms", f"{before:.1f} ms {BEFORE}", before, _MOST)

    def memory(self) -> Iterator[Figure]:
        """Measure resident memory while events come."""
        (after, grown), (before, grew) = (self._measures.memory(self._checkouts[name]) for name in (AFTER, BEFORE))
        what = f"resident memory over {self._sizes.resident:,} events"
        shown, against = f"{after:.0f} MiB, {grown:+.1%}", f"{before:.0f} MiB, {grew:+.1%} {BEFORE}"
        yield price(what, after, shown, against, before, _MOST)

    def _served(self, kind: str) -> dict[str, Serve]:
        return {name: headrace_on(self._stores, kind, checkout) for name, checkout in self._checkouts.items()}

    def _rates(self, what: str, measure: Callable[[Path], Measured], least: float = _LEAST) -> Iterator[Figure]:
        yield from _rows(what, {name: median(turns) for name, turns in self._in_turns(what, measure).items()}, least)

    def _in_turns(self, what: str, measure: Callable[[Path], T]) -> dict[str, list[T]]:
        def told(name: str) -> T:
            found = measure(self._checkouts[name])
            print(f"{name}, {what}: {found}", file=sys.stderr)
            return found

        return all_in_turns({name: partial(told, name) for name in self._checkouts}, self._sizes.rounds)


def _rows(what: str, found: dict[str, Measured], least: float = _LEAST) -> Iterator[Figure]:
    after, before = found[AFTER], found[BEFORE]
    yield rate(what, after.per_second, BEFORE, before.per_second, least)
    yield cost(what, after, BEFORE, before)


ROWS: dict[str, Callable[[Compared], Iterator[Figure]]] = {
    "hooks": Compared.hooks,
    "hooks-postgresql": lambda bench: bench.hooks_on(WHEEL),
    "hooks-debian": lambda bench: bench.hooks_on(DEBIAN),
    "ndjson": lambda bench: bench.batches(SQLITE),
    "ndjson-postgresql": lambda bench: bench.batches(WHEEL),
    "ndjson-debian": lambda bench: bench.batches(DEBIAN),
    "stream": Compared.stream,
    "pubsub-1": lambda bench: bench.pulls(1),
    "pubsub-4": lambda bench: bench.pulls(4),
    "dispatch": lambda bench: bench.dispatch(SQLITE),
    "dispatch-postgresql": lambda bench: bench.dispatch(WHEEL),
    "dispatch-debian": lambda bench: bench.dispatch(DEBIAN),
    "p99": lambda bench: bench.latency(SQLITE),
    "p99-postgresql": lambda bench: bench.latency(WHEEL),
    "p99-debian": lambda bench: bench.latency(DEBIAN),
    "memory": Compared.memory,
}
