"""A server whose events come several ways tells which way missed what, also after it was killed in between."""

from __future__ import annotations

import json
import sqlite3
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

from tests.support.server import PATIENCE_SECONDS, Server, wait_until

CONFIG = """
[sources.fleet]
product = "tracker"
loss_grace = "2s"
[sources.backup]
product = "tracker"
loss_grace = "2s"
[sources.alone]
"""
BEGUN = 'headrace_seen_by_total{modes="webhook",source="fleet"}'


def send(server: Server, source: str, numbers: range) -> None:
    """Post events in one request."""
    lines = [
        json.dumps({"event": "loc", "data": str(number), "published_at": "2026-07-28T00:00:00Z", "coreid": "dev1"})
        for number in numbers
    ]
    request = urllib.request.Request(f"{server.url}/ingest/{source}", "\n".join(lines).encode())
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 204


def metrics(server: Server) -> dict[str, float]:
    """What /metrics shows."""
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


def compared(server: Server) -> dict[tuple[str, str], int]:
    """Events of all hours, by source and ways."""
    with urllib.request.urlopen(f"{server.url}/api/v1/comparison", timeout=10) as answer:
        rows: list[dict[str, Any]] = json.load(answer)["comparison"]
    found: Counter[tuple[str, str]] = Counter()
    for row in rows:
        found[row["source"], row["modes"]] += row["events"]
        assert set(row["missed"].values()) <= {"late"}  # these are stamped months ago
    return {key: events for key, events in found.items() if events}


def has_begun(folder: Path) -> bool:
    """Whether the server of a folder compares from now on."""
    with sqlite3.connect(next(folder.glob("*.db"))) as connection:
        begun = connection.execute("SELECT 1 FROM cursors WHERE handler LIKE '(comparison)%'").fetchone()
    return begun is not None


def test_which_way_missed_what(tmp_path: Path) -> None:
    """Two sources of one product: each event is compared once, and what one of them missed is counted as that."""
    with Server(tmp_path, CONFIG, losses=["headrace_missed_by"]) as server:
        assert metrics(server)[BEGUN] == 0
        wait_until(lambda: has_begun(tmp_path), PATIENCE_SECONDS, "it does not begin to compare", 0.1)
        send(server, "fleet", range(100))
        send(server, "backup", range(40, 130))
        send(server, "alone", range(10))
        server.kill()
        server.start()
        expected = {
            ("fleet", "webhook"): 40,
            ("fleet", "webhook+backup:webhook"): 60,
            ("backup", "webhook"): 30,
        }
        wait_until(lambda: compared(server) == expected, PATIENCE_SECONDS, lambda: str(compared(server)), 0.1)
        wait_until(lambda: metrics(server)[BEGUN] == 40, PATIENCE_SECONDS, "it is not counted", 0.1)  # a moment later
        shown = metrics(server)
        assert shown['headrace_missed_by_total{source="fleet",way="backup:webhook"}'] == 40
        assert shown['headrace_missed_by_total{source="backup",way="fleet:webhook"}'] == 30
        assert not any("alone" in name for name in shown if name.startswith(("headrace_seen_by", "headrace_missed_by")))
        assert server.terminate() == 0
