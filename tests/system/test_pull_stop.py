"""A service that pulls a subscription and is told to stop in the middle of it."""

from __future__ import annotations

import threading
from pathlib import Path

from tests.support.database import read
from tests.support.emulator import new_queue, session_emulator
from tests.support.pubsub_proxy import pubsub_proxy
from tests.support.server import PATIENCE_SECONDS, Server, wait_until

COUNT = 5000
CONFIG = """
[sources.fleet]
product = "tracker"
mode = "pubsub"
[sources.fleet.pubsub]
subscription = "{subscription}"
streams = 2
"""


def test_no_committed_message_comes_again_after_a_stop_under_load(tmp_path: Path) -> None:
    """SIGTERM: what is stored was acknowledged, the exit is clean and soon, and the log holds no traceback."""
    emulator = session_emulator()
    queue = new_queue(emulator.host)
    usual = {"device_id": "d1", "published_at": "2026-07-28T16:53:05Z"}
    messages = [(str(number).encode(), usual | {"event": "temp"}) for number in range(COUNT)]
    with pubsub_proxy(emulator.host) as proxy, proxy.as_emulator():
        server = Server(tmp_path, CONFIG.format(subscription=queue.subscription))
        publishing = threading.Thread(target=queue.publish, args=(messages,))
        with server:
            publishing.start()
            wait_until(lambda: len(proxy.acknowledged) > 500, PATIENCE_SECONDS, server.log_tail)
            code = server.terminate()
            publishing.join()
        stored = read(f"sqlite:///{tmp_path}/headrace.db").rows

        assert code == 0
        assert 500 < len(stored) < COUNT, "not stopped under load"
        assert len(proxy.acknowledged) == len(stored)
        assert set(proxy.acknowledged.values()) == {1}
        log = server.log.read_text()
        assert "Traceback" not in log, log
        assert "pull_not_ended_in_time" not in log, log
