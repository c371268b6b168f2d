"""Live deliveries, and the ingestion that feeds them, beside what fails: parked rows, and receivers that hang."""

from __future__ import annotations

import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tests.bench.cost import Measured, cost, measured, median
from tests.bench.deliveries import CONCURRENCY, HANDLER, count
from tests.bench.load import Loader, Sent
from tests.bench.sizes import Sizes
from tests.bench.stores import SQLITE, Stores
from tests.bench.subjects import anchor, headrace
from tests.bench.table import Figure, rate
from tests.bench.turns import all_in_turns
from tests.support.deliveries.receiver import SECRET

LEAST_BESIDE = 0.9
HANGING = 10
_WARM_SECONDS = 2.0
_BATCH = 10
_CONNECTIONS = 8
_PARK = (
    "UPDATE events SET device = 'parked ' || device",
    "INSERT INTO cursors (handler, position, epoch) SELECT 'sink', position, 0 FROM head",
    "INSERT INTO deliveries (handler, position, device, attempts, first_failed_at, due_at, error)"
    " SELECT 'sink', position, device, 3, received_at, received_at + 600000000, 'it failed' FROM events",
)
_HANGING = """
[handlers.hanging{number}]
type = "http"
url = "{url}/events"
"""


class Live(NamedTuple):
    """Events committed, with what each took of a core, and how many a second were delivered meanwhile."""

    ingested: Measured
    delivered: float


class Beside:
    """What is measured of a handler whose receiver answers at once."""

    def __init__(self, folder: Path, sizes: Sizes, loader: Loader, stores: Stores) -> None:
        self._folder = folder
        self._sizes = sizes
        self._loader = loader
        self._stores = stores

    def figures(self) -> Iterator[Figure]:
        """Rates beside what fails, as a share of the rates alone."""
        parked = f"{self._sizes.parked:,} parked deliveries"
        hanging = f"{HANGING} handlers that hang"
        subjects: dict[str, Callable[[], Live]] = {
            "alone": self.live,
            parked: partial(self.live, parked=self._sizes.parked),
            hanging: partial(self.live, hanging=HANGING),
        }
        found = all_in_turns(subjects, self._sizes.rounds)
        alone = found.pop("alone")
        for name, turns in found.items():
            what, (ours, sent), (theirs, sent_alone) = f"live events beside {name}", _medians(turns), _medians(alone)
            yield rate(f"{what}, ingested", ours.per_second, "alone", theirs.per_second, LEAST_BESIDE)
            yield rate(f"{what}, delivered", sent, "alone", sent_alone, LEAST_BESIDE)
            yield cost(what, ours, "alone", theirs)

    def live(self, *, parked: int = 0, hanging: int = 0) -> Live:
        """Measure both rates, as fast as events are taken."""
        with (
            self._stores.fresh(SQLITE) as url,
            anchor("counting", self._folder) as receiver,
            anchor("hanging", self._folder) as deaf,
            tempfile.TemporaryDirectory(dir=self._folder) as name,
        ):
            folder = Path(name)
            with headrace(folder, url) as server:
                if parked:
                    self._loader.send(server.url, count=parked, batch=500, connections=_CONNECTIONS)
                assert server.terminate() == 0
            if parked:
                _park(url)
            handlers = HANDLER.format(url=receiver.url, secret=SECRET, concurrency=CONCURRENCY)
            handlers += "".join(_HANGING.format(number=number, url=deaf.url) for number in range(hanging))
            with headrace(folder, url, handler=handlers) as server:
                self._send(server.url, _WARM_SECONDS)
                before, began = count(receiver), time.monotonic()
                ingested = measured(server.pid, lambda: self._send(server.url, self._sizes.seconds))
                return Live(ingested, (count(receiver) - before) / (time.monotonic() - began))

    def _send(self, url: str, seconds: float) -> Sent:
        report = self._loader.send(url, seconds=seconds, batch=_BATCH, connections=_CONNECTIONS)
        return Sent(report.answers["204"] * _BATCH, report.seconds)


def _park(url: str) -> None:
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection, connection:
        for statement in _PARK:
            connection.execute(statement)


def _medians(turns: Sequence[Live]) -> Live:
    return Live(median([turn.ingested for turn in turns]), statistics.median(turn.delivered for turn in turns))
