"""Single product hooks: how many a second are answered, and what each costs, direct and behind nginx."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Protocol

from tests.bench.cost import Measured, measured, median
from tests.bench.load import Loader
from tests.bench.nginx import behind_nginx
from tests.bench.sizes import Sizes
from tests.bench.stores import Stores
from tests.bench.subjects import CHECKOUT, Served, anchor, headrace
from tests.bench.turns import all_in_turns

BARE, EMPTY, NAIVE = "bare ASGI", "empty FastAPI route", "naive commit per request, SQLite"
ANCHORS = {BARE: "bare", EMPTY: "empty", NAIVE: "naive"}
DIRECT, PROXIED = "direct", "behind nginx"
WAYS = (DIRECT, PROXIED)
LEAST_OF_EMPTY = {DIRECT: 1.15, PROXIED: 1.05}
_WARM_SECONDS = 1.0


class Serve(Protocol):
    """Starts one subject, with whatever it writes in a folder of its own."""

    def __call__(self, folder: Path) -> AbstractContextManager[Served]:
        """Return a block in which it is served."""
        ...


def anchors(*names: str) -> dict[str, Serve]:
    """Return how to start the anchors of these names."""
    return {name: partial(anchor, ANCHORS[name]) for name in names}


def headrace_on(stores: Stores, kind: str, checkout: Path = CHECKOUT) -> Serve:
    """Return how to start a checkout's Headrace on a fresh store."""

    @contextmanager
    def serve(folder: Path) -> Iterator[Served]:
        with stores.fresh(kind) as url, headrace(folder, url, checkout) as server:
            yield server

    return serve


class Hooks:
    """Measures subjects in turns: each is started on a fresh store, warmed up, measured both ways, and ended."""

    def __init__(self, folder: Path, loader: Loader, sizes: Sizes) -> None:
        self._folder = folder
        self._loader = loader
        self._sizes = sizes

    def measure(self, subjects: Mapping[str, Serve]) -> dict[str, dict[str, Measured]]:
        """Return the medians of each subject, by way."""
        turns = {name: partial(self._turn, name, serve) for name, serve in subjects.items()}
        found = all_in_turns(turns, self._sizes.rounds)
        return {name: {way: median([turn[way] for turn in turns]) for way in WAYS} for name, turns in found.items()}

    def most(self, serve: Serve) -> float:
        """Return how many a second one subject answers, direct, measured once."""
        return self._turn("the most", serve)[DIRECT].per_second

    def _turn(self, name: str, serve: Serve) -> dict[str, Measured]:
        with tempfile.TemporaryDirectory(dir=self._folder) as made:
            folder = Path(made)
            with serve(folder) as served, behind_nginx(served.url, folder) as proxied:
                self._loader.hooks(served.url, _WARM_SECONDS)
                urls = {DIRECT: served.url, PROXIED: proxied}
                found = {
                    way: measured(served.pid, partial(self._loader.hooks, url, self._sizes.seconds))
                    for way, url in urls.items()
                }
        for way, one in found.items():
            print(f"{name}, {way}: {one}", file=sys.stderr)
        return found
