"""A server without its PostgreSQL waits quietly: few lines in the log, hardly any work."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from tests.chaos.scene import POSTGRES, full_speed, server_on, store_of
from tests.support.postgres import own_server
from tests.support.server import PATIENCE_SECONDS, wait_until

HANDLERS = """
[handlers.rules]
type = "log"
[handlers.others]
type = "log"
"""
SECONDS = 6.0
ONCE = 8  # what is said when it goes, by each of those who notice
AGAIN_SECONDS = 10.0  # after which a kind of warning comes again


@pytest.mark.parametrize("spool", [False, True])
def test_an_outage_is_told_a_few_times(spool: bool, tmp_path: Path) -> None:
    """Under full load at most one line a second, beyond what is said once, and no warning twice in ten seconds.

    Without load no loop is busy.
    """
    with store_of(POSTGRES, tmp_path) as url:
        server = server_on(url, tmp_path, HANDLERS)
        if spool:
            server.config.write_text(server.config.read_text().replace("[store]", '[store]\nspool = "spool.db"', 1))
        with server:
            with full_speed(server, tmp_path, connections=16) as load:
                load.wait_for(lambda progress: progress.acknowledged > 100, PATIENCE_SECONDS, "no load")
                with own_server().outage():
                    before, gone = len(server.log.read_text().splitlines()), time.monotonic()
                    wait_until(lambda: time.monotonic() > gone + SECONDS, SECONDS + 1, "time stands still")
                    said = server.log.read_text().splitlines()[before:]
                    passed = time.monotonic() - gone
                    load.stop()
                    process = psutil.Process(server.pid)
                    used, since = sum(process.cpu_times()[:2]), time.monotonic()
                    wait_until(lambda: time.monotonic() > since + SECONDS / 2, SECONDS, "time stands still")
                    busy = (sum(process.cpu_times()[:2]) - used) / (time.monotonic() - since)
                    warned, away = warnings_of(server.log.read_text().splitlines()[before:]), time.monotonic() - gone
            assert len(said) <= ONCE + passed, "\n".join(said)
            assert max(warned.values()) <= 1 + away // AGAIN_SECONDS, warned
            assert busy < 0.5


def warnings_of(lines: Sequence[str]) -> Counter[tuple[str, str | None]]:
    """Count the warnings of each kind, and of each handler."""
    told = [json.loads(line) for line in lines]
    return Counter((line["event"], line.get("handler")) for line in told if line["level"] != "info")
