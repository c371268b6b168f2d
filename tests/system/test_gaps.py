"""A server that is stopped, killed or suspended writes down when it did not listen. Imports nothing of the product."""

from __future__ import annotations

import json
import signal
import sqlite3
import time
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.server import PATIENCE_SECONDS, Server, wait_until

SUSPENDED_SECONDS = 16.0  # longer than any busy machine lets a loop wait


def listening(server: Server, number: int) -> None:
    """Return when this interval of coverage, from 1, is there."""

    def begun() -> bool:
        with closing(sqlite3.connect(server.folder / "headrace.db")) as database:
            found: int = database.execute("SELECT count(*) FROM coverage").fetchone()[0]
        return found >= number

    wait_until(begun, PATIENCE_SECONDS, f"interval {number} did not begin")


def read(server: Server, path: str) -> Any:
    """An answer of the server."""
    with urllib.request.urlopen(server.url + path, timeout=10) as answer:
        return answer.read().decode()


def gaps(server: Server) -> list[tuple[str, bool]]:
    """The causes of the gaps, and whether each is over."""
    found = json.loads(read(server, "/api/v1/gaps"))["gaps"]
    return [(gap["cause"], gap["until"] is not None) for gap in found]


def test_a_stop_and_a_kill_are_told_apart(tmp_path: Path) -> None:
    """After SIGTERM the gap is `stopped`, after SIGKILL `down`; the first start opens none, and metrics agree."""
    with Server(tmp_path, "") as server:
        listening(server, 1)
        assert gaps(server) == []
        assert server.terminate() == 0
        server.start()
        listening(server, 2)
        assert gaps(server) == [("stopped", True)]
        server.kill()
        server.start()
        listening(server, 3)
        assert gaps(server) == [("stopped", True), ("down", True)]
        metrics = read(server, "/metrics")

    assert 'headrace_gaps_total{cause="down",mode="webhook",source="default"} 1.0' in metrics
    assert 'headrace_gaps_total{cause="stopped",mode="webhook",source="default"} 0.0' in metrics
    assert 'headrace_gap_open{mode="webhook",source="default"} 0.0' in metrics


@pytest.mark.chaos
def test_a_suspended_server_did_not_listen(tmp_path: Path) -> None:
    """SIGSTOP for a while is a gap as long, although the process never noticed that it did not run."""
    with Server(tmp_path, "") as server:
        listening(server, 1)
        server.signal(signal.SIGSTOP)
        time.sleep(SUSPENDED_SECONDS)
        server.signal(signal.SIGCONT)
        listening(server, 2)
        (gap,) = json.loads(read(server, "/api/v1/gaps"))["gaps"]

    assert gap["cause"] == "down"
    assert SUSPENDED_SECONDS - 1 <= gap["seconds"] <= SUSPENDED_SECONDS + 10
