"""Deliveries go over connections that are kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.scene import SQLITE, full_speed, server_on, store_of
from tests.support.deliveries.answers import Weather
from tests.support.deliveries.journal import Connected, kinds
from tests.support.deliveries.receiver import SECRET
from tests.support.deliveries.running import RunningReceiver
from tests.support.server import PATIENCE_SECONDS, wait_until

CONCURRENCY = 64
MOST_CONNECTIONS = 80
_HANDLER = """
[handlers.sink]
type = "http"
url = "{url}"
secrets = ["{secret}"]
from = "beginning"
concurrency = {concurrency}
"""


@pytest.mark.parametrize("events", [4_000, pytest.param(20_000, marks=pytest.mark.chaos)])
def test_few_connections(events: int, tmp_path: Path) -> None:
    """Thousands of deliveries at a concurrency of 64 take 80 TCP connections at most, by the receiver's count."""
    with (
        store_of(SQLITE, tmp_path) as url,
        RunningReceiver(tmp_path / "receiver", Weather(seed=1, faults=0)) as receiver,
    ):
        handler = _HANDLER.format(url=receiver.url, secret=SECRET, concurrency=CONCURRENCY)
        with server_on(url, tmp_path, handler) as server, full_speed(server, tmp_path, count=events) as load:
            load.finish(PATIENCE_SECONDS)
            wait_until(
                lambda: len({each.id for each in receiver.journal.deliveries()}) >= events, PATIENCE_SECONDS, "no"
            )
        entries = receiver.journal.entries
        print(f"\n{len(receiver.journal.deliveries())} deliveries over {len(kinds(entries, Connected))} connections")
        assert not [each.fault for each in receiver.journal.deliveries() if each.fault]
        assert len(kinds(entries, Connected)) <= MOST_CONNECTIONS
