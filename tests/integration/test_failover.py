"""A primary dies, and its standby takes over: the same server goes on there, and keeps all that it acknowledged."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.chaos.scene import check, full_speed, only, server_on
from tests.support.failover import replicated
from tests.support.oracle import read_metrics, verify_metrics
from tests.support.server import PATIENCE_SECONDS, Server, wait_until

HANDLER = """
[handlers.rules]
type = "log"
"""
AWAY_SECONDS = 2.0
ONCE = 8  # lines, of each who notices


@pytest.mark.parametrize("spool", [False, True])
def test_the_standby_takes_over(spool: bool, tmp_path: Path) -> None:
    """503 in between, or with a spool 204; then it goes on by itself, and nothing is missing or twice."""
    with replicated() as pair:
        server = server_on(pair.url, tmp_path, HANDLER)
        if spool:
            server.config.write_text(server.config.read_text().replace("[store]", '[store]\nspool = "spool.db"', 1))
        with server:
            with full_speed(server, tmp_path, connections=16) as load:
                load.wait_for(lambda progress: progress.acknowledged > 500, PATIENCE_SECONDS, "no load")
                pair.primary.kill()
                lines, since = len(log_of(server)), time.monotonic()
                answered = load.progress
                load.wait_for(
                    lambda progress: (
                        progress.acknowledged > answered.acknowledged + 100
                        if spool
                        else progress.deferred > answered.deferred
                    ),
                    PATIENCE_SECONDS,
                    "no answer while nobody takes writes",
                )
                wait_until(lambda: time.monotonic() > since + AWAY_SECONDS, 60, "time stands still")
                said, passed = log_of(server)[lines:], time.monotonic() - since
                pair.promote()
                back = load.progress.acknowledged
                load.wait_for(
                    lambda progress: progress.acknowledged > back + 500, PATIENCE_SECONDS, "it does not recover"
                )
                report, ledger = load.stop()
            only(report, "204", *([] if spool else ["503"]))
            assert not report.cut
            assert len(said) <= ONCE + passed, "\n".join(said)
            wait_until(lambda: not metric(server, "headrace_spool_events"), PATIENCE_SECONDS, "it is not drained")
            assert verify_metrics(server.url)["in_flight"] == 0
            assert metric(server, "headrace_store_rewinds_total") == 0
            wait_until(lambda: not metric(server, "headrace_handler_lag_events"), PATIENCE_SECONDS, "not handed on")
            check(server, pair.url_of_standby, {"load": ledger})


def log_of(server: Server) -> list[str]:
    """Return the lines that the server wrote."""
    return server.log.read_text().splitlines()


def metric(server: Server, name: str) -> float:
    """Return the sum of a metric's samples; 0 where there is none."""
    return sum(value for found, value in read_metrics(server.url) if found == name)
