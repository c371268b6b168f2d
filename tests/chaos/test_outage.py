"""PostgreSQL is gone for a while: senders are told to come again, and the same process goes on afterwards."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.chaos.scene import POSTGRES, check, full_speed, only, server_on, store_of
from tests.support.oracle import verify_metrics
from tests.support.postgres import own_server
from tests.support.server import PATIENCE_SECONDS, wait_until

PARTICLE_SECONDS = 20.0  # what the sender waits for an answer


@pytest.mark.parametrize("seconds", [0.5, pytest.param(10.0, marks=pytest.mark.chaos)])
def test_a_database_outage_defers_and_recovers(seconds: float, tmp_path: Path) -> None:
    """503 while the database is away, 204 again without a restart, and nothing acknowledged is lost."""
    with store_of(POSTGRES, tmp_path) as url, server_on(url, tmp_path) as server:
        pid = server.pid
        with full_speed(server, tmp_path) as load:
            load.wait_for(lambda progress: progress.acknowledged > 1000, PATIENCE_SECONDS, "no load")
            with own_server().outage():
                since, before = time.monotonic(), load.progress.deferred
                load.wait_for(
                    lambda progress: progress.deferred > before, PATIENCE_SECONDS, "no 503 while the database is away"
                )
                wait_until(lambda: time.monotonic() > since + seconds, seconds + 1, "time stands still")
            back = load.progress.acknowledged
            load.wait_for(lambda progress: progress.acknowledged > back + 1000, PATIENCE_SECONDS, "it does not recover")
            report, ledger = load.stop()
        only(report, "204", "503")
        assert not report.cut
        assert report.slowest < PARTICLE_SECONDS
        assert server.pid == pid
        verify_metrics(server.url)
        check(server, url, {"load": ledger})
