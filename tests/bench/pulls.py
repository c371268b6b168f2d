"""Pub/Sub: messages committed per second and what they cost, beside a subscriber that stores nothing."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.bench.cost import Measured, cost, measured, median
from tests.bench.plain_subscriber import plain_rate
from tests.bench.sizes import Sizes
from tests.bench.streams import store_the_rest, wait_stored
from tests.bench.subjects import CHECKOUT, running
from tests.bench.table import Figure, rate
from tests.bench.turns import all_in_turns
from tests.support.emulator import Emulator, Queue, new_queue
from tests.support.numbered import Numbered
from tests.support.server import Server

LEAST_SHARE = 0.9
MOST_COST = 2.0
LEAST_PULLED = 5000
_STREAMS = (1, 4)
_CONFIG = """
[store]
url = "sqlite:///headrace.db"

[sources.fleet]
product = "tracker"
mode = "pubsub"

[sources.fleet.pubsub]
subscription = "{subscription}"
streams = {streams}
"""


class Pulls:
    """What is measured of subscriptions, all at one emulator, which runs inside the block."""

    def __init__(self, folder: Path, sizes: Sizes) -> None:
        self._folder = folder
        self._sizes = sizes
        self._emulator = Emulator()

    def __enter__(self) -> Self:
        self._emulator.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._emulator.stop()

    def figures(self) -> Iterator[Figure]:
        """Rate and cost, at one stream and at four."""
        for streams in _STREAMS:
            yield from self._rows(streams)

    def committed(self, streams: int, checkout: Path = CHECKOUT) -> Measured:
        """Measure from the first message that is stored to the last."""
        queue = self._filled()
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            config = _CONFIG.format(subscription=queue.subscription, streams=streams)
            environment = {"PUBSUB_EMULATOR_HOST": queue.host, **running(checkout)}
            with Server(Path(folder), config, environment=environment) as server:
                wait_stored(server, 1)
                return measured(server.pid, lambda: store_the_rest(server, self._sizes.pulled))

    def _rows(self, streams: int) -> Iterator[Figure]:
        subjects = {"ours": partial(self.committed, streams), "plain": partial(self._plain, streams)}
        found = {name: median(turns) for name, turns in all_in_turns(subjects, self._sizes.rounds).items()}
        pulled, plain = found["ours"], found["plain"]
        what = f"{streams} stream{'s' if streams > 1 else ''} of a subscription, SQLite"
        anchor = "a subscriber that acknowledges at once"
        yield rate(what, pulled.per_second, anchor, plain.per_second, LEAST_SHARE)
        yield cost(what, pulled, anchor, plain, MOST_COST)
        if streams == max(_STREAMS):
            met = pulled.per_second >= LEAST_PULLED
            yield Figure(f"{what}, committed", f"{pulled.per_second:,.0f}/s", target=f"≥ {LEAST_PULLED:,}/s", met=met)

    def _plain(self, streams: int) -> Measured:
        """Measure a subscriber that stores nothing."""
        queue = self._filled()
        return plain_rate(queue.host, queue.subscription, streams, self._sizes.pulled)

    def _filled(self) -> Queue:
        """A subscription that holds the events of a run, each of 300 bytes by webhook."""
        queue = new_queue(self._emulator.host)
        numbered = Numbered("pulled", datetime.now(UTC))
        queue.publish(numbered.message(number) for number in range(self._sizes.pulled))
        return queue
