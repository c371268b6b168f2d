"""Pub/Sub: messages committed per second and what they cost, beside a subscriber that stores nothing."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from tests.bench.plain_subscriber import PullRate, plain_rate
from tests.bench.sizes import Sizes
from tests.bench.streams import cpu_seconds, stored, wait_stored
from tests.bench.table import Figure, rate
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
    """The rows about Pub/Sub, all against one emulator."""

    def __init__(self, folder: Path, sizes: Sizes) -> None:
        self._folder = folder
        self._sizes = sizes
        self._emulator = Emulator()

    def figures(self) -> Iterator[Figure]:
        """Rate and cost, at one stream and at four."""
        self._emulator.start()
        try:
            for streams in _STREAMS:
                yield from self._rows(streams)
        finally:
            self._emulator.stop()

    def _rows(self, streams: int) -> Iterator[Figure]:
        ours, theirs = [], []
        for _ in range(self._sizes.rounds):
            ours.append(self._committed(streams))
            queue = self._filled()
            theirs.append(plain_rate(queue.host, queue.subscription, streams, self._sizes.pulled))
        pulled, plain = median(ours), median(theirs)
        what = f"{streams} stream{'s' if streams > 1 else ''} of a subscription, SQLite"
        anchor = "a subscriber that acknowledges at once"
        yield rate(what, pulled.messages_per_second, anchor, plain.messages_per_second, LEAST_SHARE)
        cost, least = pulled.cpu_seconds_per_10k, plain.cpu_seconds_per_10k
        yield Figure(
            f"{what}: seconds of a core for 10,000",
            f"{cost:.2f} s",
            f"{least:.2f} s {anchor}",
            f"{cost / least:.2f} ×",
            f"≤ {MOST_COST:g} ×",
            cost <= MOST_COST * least,
        )
        if streams == max(_STREAMS):
            figure = f"{pulled.messages_per_second:,.0f}/s"
            met = pulled.messages_per_second >= LEAST_PULLED
            yield Figure(f"{what}, committed", figure, target=f"≥ {LEAST_PULLED:,}/s", met=met)

    def _filled(self) -> Queue:
        """A subscription that holds the events of a run, each of 300 bytes by webhook."""
        queue = new_queue(self._emulator.host)
        numbered = Numbered("pulled", datetime.now(UTC))
        queue.publish(numbered.message(number) for number in range(self._sizes.pulled))
        return queue

    def _committed(self, streams: int) -> PullRate:
        """From the first that is stored to the last; the writing process's cost counts."""
        queue = self._filled()
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            config = _CONFIG.format(subscription=queue.subscription, streams=streams)
            with Server(Path(folder), config, environment={"PUBSUB_EMULATOR_HOST": queue.host}) as server:
                wait_stored(server, 1)
                began, cost, first = time.monotonic(), family_seconds(server.pid), stored(server)
                wait_stored(server, self._sizes.pulled)
                messages = self._sizes.pulled - first
                cost = family_seconds(server.pid) - cost
                return PullRate(messages / (time.monotonic() - began), cost / messages * 10_000)


def median(found: list[PullRate]) -> PullRate:
    """Of each figure."""
    return PullRate(
        statistics.median(one.messages_per_second for one in found),
        statistics.median(one.cpu_seconds_per_10k for one in found),
    )


def family_seconds(pid: int) -> float:
    """As `cpu_seconds`, with the process's children: what SQLite is written by."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return cpu_seconds(pid) + sum(cpu_seconds(int(child)) for child in children)
