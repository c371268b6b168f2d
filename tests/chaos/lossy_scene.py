"""A server that follows a lossy fleet by one way or two, and is killed and cut off meanwhile."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from urllib.error import HTTPError

from tests.chaos.lossy_ways import BEAT, StreamWay, SubscriptionWay, Way, WebhookWay
from tests.chaos.scene import store_of
from tests.support.emulator import new_queue, session_emulator
from tests.support.observed import pages, seconds_of
from tests.support.oracle import get_json
from tests.support.pubsub_proxy import pubsub_proxy
from tests.support.sequences.fleet_by_ways import MARKER, Fleet
from tests.support.sequences.fleet_truth import Arrivals, Stored
from tests.support.server import PATIENCE_SECONDS, Server, free_port, wait_until

GRACE_SECONDS = 1.0
PRODUCT = "tracker"
_PAUSE_SECONDS = (0.002, 0.02)  # between what a way brings at once
_TOGETHER = 8
_CONFIG = """
[store]
url = "{store}"

[sources.fleet]
product = "{product}"
mode = {modes}
sequence = "/seq"
loss_grace = "{grace:g}s"
{counting}
[sources.fleet.sse]
url = "http://127.0.0.1:{stream}/events"
token = "token"

[sources.fleet.pubsub]
subscription = "{subscription}"
"""
Metrics = Mapping[str, float]


@dataclass
class Scene:
    """A server and the ways of a fleet, whose chapters are played with a fault in the middle."""

    fleet: Fleet
    server: Server
    store: str
    ways: Mapping[str, Way]
    random: Random
    _brought: dict[str, int] = field(default_factory=dict)

    def play(self, chapter: int, fault: Callable[[Scene], None] | None = None) -> None:
        """Let each way bring what it brings, with a fault in between; return when all has come, and was followed."""
        copies = self.fleet.chapters[chapter]
        strikes_at = self.random.uniform(0.2, 0.8) * sum(map(len, copies.values()))
        self._brought = dict.fromkeys(copies, 0)
        with ThreadPoolExecutor(len(copies)) as threads:
            bringing = [threads.submit(self._bring, way, some, self.random.random()) for way, some in copies.items()]
            if fault is not None:
                wait_until(
                    lambda: sum(self._brought.values()) >= strikes_at or all(one.done() for one in bringing),
                    PATIENCE_SECONDS,
                    "the chapter does not go on",
                )
                fault(self)
            for one in bringing:
                one.result(PATIENCE_SECONDS)
        for way in self.ways.values():
            way.settle()
        self._mark(chapter)

    def kill(self) -> None:
        """Kill the server and start it again. What has come is made certain just before, so that little is not."""
        for way in self.ways.values():
            way.confirm()
        self.server.kill()
        for way in self.ways.values():
            way.take_back()
        self.server.start()

    def cut(self) -> None:
        """Cut one of the ways off."""
        self.random.choice(list(self.ways.values())).cut(self.random)

    def wait_told(self) -> None:
        """Return when no number is missing any more: each was lost, or came after all."""
        wait_until(lambda: self.metrics()["missing"] == 0, PATIENCE_SECONDS, "missing for ever", every=0.1)

    def metrics(self) -> Metrics:
        """Return what /metrics says of the numbers; recovered ones by what they were."""
        with urllib.request.urlopen(f"{self.server.url}/metrics", timeout=20) as answer:
            lines = answer.read().decode().splitlines()
        found = dict(line.rsplit(" ", 1) for line in lines if line.startswith("headrace_events_"))
        of_source = '{source="fleet"}'
        names = {name: f"headrace_events_{name}{of_source}" for name in ("missing", "lost_total", "ambiguous_total")}
        for before in ("missing", "lost"):
            names[f"recovered from {before}"] = f'headrace_events_recovered_total{{from="{before}",source="fleet"}}'
        return {name: float(found[sample]) for name, sample in names.items()}

    def numbers(self, device: str, state: str) -> list[int]:
        """Return the numbers of a device that are missing, lost or recovered, as the API lists them."""
        rows = pages(self.server.url, "losses", product=PRODUCT, device=device, state=state)
        return sorted(row["sequence"] for row in rows)

    def arrivals(self) -> Arrivals:
        """Return how often each copy came by each way."""
        return {mode: way.arrivals() for mode, way in self.ways.items()}

    def stored(self) -> list[Stored]:
        """Return the fleet's events in the order in which they were stored."""
        return [
            Stored(self.fleet.of_event(event), event["mode"], seconds_of(event["received_at"]))
            for event in pages(self.server.url, "events")
            if event["device"] != BEAT
        ]

    def _bring(self, mode: str, copies: Sequence[int], seed: float) -> None:
        """Let a way bring some copies, and some more, until it has brought them all."""
        chance = Random(seed)
        brought = 0
        while brought < len(copies):
            some = copies[brought : brought + chance.randint(1, _TOGETHER)]
            self.ways[mode].bring(some)
            brought += len(some)
            self._brought[mode] = brought
            time.sleep(chance.uniform(*_PAUSE_SECONDS))

    def _mark(self, chapter: int) -> None:
        """Bring the marker, however often it takes, and wait until it was followed: so all before it was."""
        way, marker = self.ways[min(self.ways)], self.fleet.marker(chapter)
        while not any(event.copy == marker for event in self.stored()):
            way.bring([marker])
            way.settle()
        wait_until(
            lambda: self._last_number() == self.fleet.copies[marker].raw,
            PATIENCE_SECONDS,
            lambda: f"the Auditor does not follow\n{self.server.log_tail()}",
            every=0.1,
        )

    def _last_number(self) -> int | None:
        try:
            found = get_json(f"{self.server.url}/api/v1/devices/{MARKER}?product={PRODUCT}")
        except HTTPError:  # not known yet
            return None
        number: int | None = found["last_number"]
        return number


@contextmanager
def lossy(
    kind: str, fleet: Fleet, ways: Sequence[str], random: Random, folder: Path, losses: Sequence[str] = ()
) -> Iterator[Scene]:
    """Run a server on a fresh store that follows a fleet. `losses`: see Server."""
    with ExitStack() as stack:
        store = stack.enter_context(store_of(kind, folder))
        emulator = session_emulator().host if "pubsub" in ways else ""
        queue = new_queue(emulator) if emulator else None
        proxy = stack.enter_context(pubsub_proxy(emulator)) if emulator else None
        port = free_port()
        config = _CONFIG.format(
            store=store,
            product=PRODUCT,
            modes=json.dumps(ways),
            grace=GRACE_SECONDS,
            counting=_settings(fleet),
            stream=port,
            subscription=queue.subscription if queue else "projects/p/subscriptions/none",
        )
        environment = {"PUBSUB_EMULATOR_HOST": proxy.host} if proxy else {}
        server = Server(folder, config, environment=environment, losses=losses)
        if not store.startswith("sqlite:"):
            server.migrate()
        found: dict[str, Way] = {}
        if "webhook" in ways:
            found["webhook"] = WebhookWay(fleet, server)
        if "sse" in ways:
            found["sse"] = stream = StreamWay(fleet, server, port, deaf_for=random.randint(0, 20))
            stack.enter_context(stream)
        if queue and proxy:
            found["pubsub"] = SubscriptionWay(fleet, queue, proxy)
        stack.enter_context(server)
        for way in found.values():
            way.settle()
        yield Scene(fleet, server, store, found, random)


def _settings(fleet: Fleet) -> str:
    counting = fleet.counting
    found = {
        "sequence_first": counting.first,
        "sequence_modulus": counting.modulus,
        "sequence_epoch": "/run" if counting.by_epoch else None,
        "message_id": "/msg" if counting.message_ids else None,
    }
    return "\n".join(f"{name} = {json.dumps(value)}" for name, value in found.items() if value is not None)
