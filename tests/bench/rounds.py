"""The measurements on running servers. Anything compared is measured in turns within one run, and the median counts."""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.bench.load import Loader
from tests.bench.subjects import headrace
from tests.support.ledger import Report
from tests.support.oracle import read_metrics
from tests.support.server import Server, wait_until

_PREFILL_BATCH = 500
_PREFILL_CONNECTIONS = 8
_MEMORY_BATCH = 10
_MEMORY_SAMPLES = 10
_RESIDENT = re.compile(r"VmRSS:\s+(\d+) kB")
_LOOK_SECONDS = 0.25
_DELIVERED = "headrace_handler_deliveries_total"


def in_turns(subjects: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """The median of each subject, measured A, B, C, A, B, C … so that a slow minute harms all alike."""
    found: dict[str, list[float]] = {name: [] for name in subjects}
    for _ in range(rounds):
        for name, measure in subjects.items():
            found[name].append(measure())
    return {name: statistics.median(rates) for name, rates in found.items()}


def prefill(server: Server, loader: Loader, events: int) -> None:
    """Store so many events, quickly."""
    loader.send(server.url, count=events, batch=_PREFILL_BATCH, connections=_PREFILL_CONNECTIONS)


def batch_rate(server: Server, loader: Loader, seconds: float) -> float:
    """Events per second in NDJSON batches of 100."""
    return loader.send(server.url, seconds=seconds, batch=100).events_per_second


def latency_at(server: Server, loader: Loader, rate: float, seconds: float) -> Report:
    """What a steady rate of single events sees, each timed from when it was due (no coordinated omission)."""
    return loader.send(server.url, seconds=seconds, rate=rate)


def delivered(server: Server) -> float:
    """How many events the handler has been given."""
    return sum(value for name, value in read_metrics(server.url) if name == _DELIVERED)


def wait_delivered(server: Server, events: int) -> None:
    """Return when the handler has been given so many; looked at rarely, because looking costs the server time."""
    wait_until(lambda: delivered(server) >= events, 600, f"{events} are not dispatched", every=_LOOK_SECONDS)


def dispatch_backlog_rate(folder: Path, store: str, loader: Loader, events: int) -> float:
    """Events per second to a no-op Python handler that begins at the first of a full store."""
    with headrace(folder, store) as server:
        prefill(server, loader, events)
    with headrace(folder, store, handler_from="beginning") as server:
        wait_delivered(server, 1)
        began, first = time.monotonic(), delivered(server)
        wait_delivered(server, events)
        return (events - first) / (time.monotonic() - began)


def dispatch_live_rate(folder: Path, store: str, loader: Loader, events: int) -> float:
    """Events per second from the first NDJSON post until the handler has been given the last of so many events."""
    with headrace(folder, store, handler_from="now") as server:
        began = time.monotonic()
        prefill(server, loader, events)
        wait_delivered(server, events)
        return events / (time.monotonic() - began)


def resident_growth(server: Server, loader: Loader, events: int) -> tuple[float, float]:
    """Resident MiB after the first tenth of so many events, and the largest relative change from there to the end."""
    samples = []
    for _ in range(_MEMORY_SAMPLES + 1):
        loader.send(server.url, count=events // _MEMORY_SAMPLES, batch=_MEMORY_BATCH)
        samples.append(resident_bytes(server.pid))
    return samples[0] / 2**20, max((sample / samples[0] - 1 for sample in samples[1:]), key=abs)


def resident_bytes(pid: int) -> int:
    """The resident memory of a process."""
    match = _RESIDENT.search(Path(f"/proc/{pid}/status").read_text())
    assert match is not None
    return int(match[1]) * 1024
