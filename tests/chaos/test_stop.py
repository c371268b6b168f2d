"""SIGTERM under load: what was taken is settled, and the process leaves in time."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest

from tests.chaos.scene import POSTGRES, SQLITE, check, full_speed, only, redeliver, server_on, store_of
from tests.support.server import PATIENCE_SECONDS, wait_until


@pytest.mark.parametrize("store", [SQLITE, POSTGRES])
def test_a_stopped_server_drains(store: str, tmp_path: Path) -> None:
    """It answers 204 or 503 until it is gone, exits with 0 within 25 s, and keeps all it acknowledged."""
    with store_of(store, tmp_path) as url, server_on(url, tmp_path) as server:
        with full_speed(server, tmp_path) as load:
            load.wait_for(lambda progress: progress.acknowledged > 1000, PATIENCE_SECONDS, "no load")
            signalled = time.monotonic()
            assert server.terminate() == 0, server.log_tail()
            report, ledger = load.stop()
        only(report, "204", "503")
        # Later ones may cross the closing of an idle connection, as the protocol allows (RFC 9112, 9.5).
        assert not [at for at in report.cut_sent_at if at < signalled], f"requests in flight were dropped: {report}"
        server.start()
        redeliver(load, ledger, tmp_path, random.Random(1))
        check(server, url, {"load": ledger})


def test_an_idle_server_leaves_at_once(tmp_path: Path) -> None:
    """SIGINT, as Ctrl-C sends it, ends a server that nobody uses within seconds, with exit code 0."""
    with store_of(SQLITE, tmp_path) as url, server_on(url, tmp_path) as server:
        server.signal(signal.SIGINT)
        assert server.wait(10) == 0, server.log_tail()
        wait_until(lambda: "Traceback" not in server.log_tail(), 1, "a traceback for an ordinary stop")
