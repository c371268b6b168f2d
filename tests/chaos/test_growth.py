"""Five million stored events cost ingestion little, and a device's latest hundred nothing to speak of."""

from __future__ import annotations

import http.client
import json
import random
import statistics
import time
from pathlib import Path

import pytest

from tests.chaos.scene import SQLITE, full_speed, server_on, store_of
from tests.support.server import PATIENCE_SECONDS, Server

STORED = 5_000_000
DEVICES = 1000
BATCH = 1000
ROUNDS = 3
ROUND_SECONDS = 5.0
QUERIES = 300
MOST_LOST_SHARE = 0.2
QUERY_P95_SECONDS = 0.020

pytestmark = pytest.mark.chaos


def test_cost_as_the_store_grows(tmp_path: Path) -> None:
    """Ingestion keeps 80 % of the empty store's rate, and p95 of a device's listing stays within 20 ms."""
    with store_of(SQLITE, tmp_path) as url, server_on(url, tmp_path) as server:
        empty = ingest_rate(server, tmp_path, "empty")
        with full_speed(
            server, tmp_path, "prefill", count=STORED, batch=BATCH, connections=8, redeliver=0.0, devices=DEVICES
        ) as load:
            report, _ = load.finish(1800)
        assert report.answers == {"204": STORED // BATCH}
        full = ingest_rate(server, tmp_path, "full")
        p95 = listing_p95(server)
        print(
            f"\nsingle events: {empty:.0f}/s empty, {full:.0f}/s over {STORED:,} ({full / empty:.0%});"
            f" prefill {report.events_per_second:.0f} events/s; a device's latest 100: p95 {p95 * 1000:.1f} ms"
        )
        assert full >= (1 - MOST_LOST_SHARE) * empty
        assert p95 <= QUERY_P95_SECONDS


def ingest_rate(server: Server, folder: Path, name: str) -> float:
    """Single events per second at 64 connections: the median of a few rounds."""
    rates = []
    for turn in range(ROUNDS):
        with full_speed(server, folder, f"{name}{turn}", seconds=ROUND_SECONDS, redeliver=0.0) as load:
            report, _ = load.finish(PATIENCE_SECONDS)
        assert set(report.answers) == {"204"}
        rates.append(report.events_per_second)
    return statistics.median(rates)


def listing_p95(server: Server) -> float:
    """Seconds in which 95 % of the listings of a random device are answered, one after the other."""
    chance = random.Random(1)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    taken = []
    for _ in range(QUERIES):
        device = f"e00fce68{chance.randrange(DEVICES):016x}"
        began = time.perf_counter()
        connection.request("GET", f"/api/v1/events?device={device}&limit=100")
        answer = json.loads(connection.getresponse().read())
        taken.append(time.perf_counter() - began)
        assert len(answer["events"]) == 100
    connection.close()
    return statistics.quantiles(taken, n=20)[18]
