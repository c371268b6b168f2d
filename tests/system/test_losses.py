"""A server tells which numbers of devices are missing, lost and recovered: as many as were really not sent to it."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.support.server import PATIENCE_SECONDS, Server, wait_until

CONFIG = """
[sources.fleet]
product = "tracker"
sequence = "/seq"
sequence_first = 1
loss_grace = "2s"
[sources.second]
product = "tracker"
sequence = "/seq"
sequence_first = 1
loss_grace = "2s"
[sources.booting]
sequence = "/n/seq"
sequence_epoch = "/n/boot"
sequence_first = 1
loss_grace = "2s"
[sources.round]
sequence = "/seq"
sequence_modulus = 256
loss_grace = "2s"
[sources.healthy]
sequence = "/seq"
[sources.plain]
"""
LOST = ("headrace_events_lost", "headrace_events_missing", "headrace_missed_by")
COUNTS = ("missing", "lost_total", "ambiguous_total", 'recovered_total{from="missing"', 'recovered_total{from="lost"')


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server whose sources have counters."""
    with Server(tmp_path, CONFIG, losses=LOST) as server:
        yield server


class Sender:
    """Posts numbers; each message has a stamp of its own, as the vendor gives them at its own receipt."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._sent = 0

    def send(self, source: str, numbers: Iterable[int], *, device: str = "dev1", **fields: Any) -> None:
        """Post events in one request; `boot` goes with the number."""
        lines = []
        for number in numbers:
            self._sent += 1
            stamp = f"2026-07-28T{self._sent // 3600:02}:{self._sent // 60 % 60:02}:{self._sent % 60:02}Z"
            data = {"n": {"seq": number, **fields}} if "boot" in fields else {"seq": number, **fields}
            event = {"event": "loc", "data": json.dumps(data), "published_at": stamp, "coreid": device}
            lines.append(json.dumps(event))
        request = urllib.request.Request(f"{self._server.url}/ingest/{source}", "\n".join(lines).encode())
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert answer.status == 204


def read(server: Server, path: str) -> Any:
    """An answer of the server."""
    with urllib.request.urlopen(server.url + path, timeout=10) as answer:
        return answer.read().decode()


def numbers(server: Server, query: str) -> list[int]:
    """The numbers that the API shows, over all its pages."""
    found, after = [], 0
    while after is not None:
        page = json.loads(read(server, f"/api/v1/losses?limit=50&after={after}&{query}"))
        found += [row["sequence"] for row in page["losses"]]
        after = page["next"]
    return sorted(found)


def counts(server: Server, source: str) -> list[int]:
    """What the metrics show of a source, in the order of COUNTS."""
    found = dict(line.rsplit(" ", 1) for line in read(server, "/metrics").splitlines() if not line.startswith("#"))
    names = [f"headrace_events_{name}" for name in COUNTS]
    names = [f'{name},source="{source}"}}' if "{" in name else f'{name}{{source="{source}"}}' for name in names]
    return [int(float(found[name])) for name in names]


def becomes(server: Server, query: str, expected: list[int]) -> None:
    """Wait until the API shows these numbers."""
    wait_until(lambda: numbers(server, query) == expected, PATIENCE_SECONDS, lambda: str(numbers(server, query)), 0.1)


def test_what_is_lost_is_the_truth(server: Server) -> None:
    """Drops, duplicates, other orders, late ones, restarts, wraps, a kill: lost is what was not sent, and no more."""
    random, sender = Random(1), Sender(server)
    dropped = set(random.sample(range(2, 300), 40))
    come = [number for number in range(1, 301) if number not in dropped]
    for start in range(0, len(come), 30):
        some = come[start : start + 30]
        middle = some[1:-1]
        random.shuffle(middle)
        sender.send(random.choice(["fleet", "second"]), [some[0], *middle, some[-1], some[-1]])
    for boot in (1, 2, 3):
        late_ones = [20, 10] if boot == 1 else []
        sender.send("booting", [*(number for number in range(2, 40) if number % 10), *late_ones], boot=boot)
    sender.send("round", [number % 256 for number in range(100, 1000) if number not in (255, 256, 600)])
    sender.send("healthy", [*range(50), 49, 48, *range(50, 90), 80, 90])
    becomes(server, "product=tracker&state=lost", sorted(dropped))

    late = sorted(dropped)[5:9]
    sender.send("second", late)
    left = sorted(dropped - set(late))
    becomes(server, "product=tracker&state=lost", left)
    assert set(late) <= set(numbers(server, "product=tracker&state=recovered"))
    becomes(server, "product=booting&state=lost", [1, 1, 1, 10, 10, 20, 20, 30, 30, 30])
    becomes(server, "source=round&state=lost", [0, 88, 255])
    two = [sum(pair) for pair in zip(counts(server, "fleet"), counts(server, "second"), strict=True)]
    assert two == [0, len(dropped), 0, two[3], len(late)]
    assert counts(server, "booting") == [0, 10, 0, 2, 0]
    assert counts(server, "round") == [0, 3, 0, 0, 0]
    assert counts(server, "healthy") == counts(server, "plain") == [0, 0, 0, 0, 0]

    server.kill()
    server.start()
    sender.send("fleet", [302])
    becomes(server, "product=tracker&state=lost", [*left, 301])
    assert counts(server, "fleet")[1] == 1
    wait_until(
        lambda: "headrace_auditor_lag_events 0.0" in read(server, "/metrics"), PATIENCE_SECONDS, "it lags for ever"
    )
    assert server.terminate() == 0
