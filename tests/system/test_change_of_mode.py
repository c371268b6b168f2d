"""The README's way from one delivery mode to another: add the new, watch both agree, remove the old."""

from __future__ import annotations

import json
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

from tests.support.emulator import Published, Queue, new_queue, session_emulator
from tests.support.pubsub_proxy import pubsub_proxy
from tests.support.server import PATIENCE_SECONDS, Server, wait_until

STAGE = 100  # events while each configuration runs
CONFIG = """
[sources.fleet]
product = "tracker"
mode = {mode}

[sources.fleet.pubsub]
subscription = "{subscription}"
"""


def message(number: int) -> Published:
    """What Particle publishes of an event."""
    about = {"event": "temperature", "device_id": f"dev{number % 7}", "published_at": "2026-07-28T16:53:05.616Z"}
    return b'{"n":%d}' % number, about


def hook(number: int) -> bytes:
    """The webhook of the same event."""
    data, about = message(number)
    fields = {"event": about["event"], "coreid": about["device_id"], "published_at": about["published_at"]}
    return json.dumps({**fields, "data": data.decode()}).encode()


def send(server: Server, queue: Queue, numbers: range, *, hooks: bool = True) -> None:
    """Let both of Particle's integrations send these events; the first copy comes by either."""
    for number in numbers:
        queue.publish([message(number)])
        if hooks:
            request = urllib.request.Request(f"{server.url}/ingest/fleet", hook(number), method="POST")
            with urllib.request.urlopen(request, timeout=20) as answer:
                assert answer.status == 204


def sources(server: Server) -> dict[str, Any]:
    """How each mode of the source does."""
    with urllib.request.urlopen(f"{server.url}/api/v1/sources", timeout=10) as answer:
        return {source["mode"]: source for source in json.load(answer)["sources"]}


def agreed(source: Any) -> int:
    """What the README has its reader compare: stored + overlap."""
    return int(source["counts"]["stored"] + source["duplicate_kinds"]["overlap"])


def stored(server: Server) -> Counter[str]:
    """The data of all events, and how often each is stored."""
    with urllib.request.urlopen(f"{server.url}/api/v1/events?limit=1000", timeout=10) as answer:
        return Counter(event["data"] for event in json.load(answer)["events"])


def test_changing_from_webhook_to_pubsub_loses_nothing(tmp_path: Path) -> None:
    """In each of the three configurations events come; in the end each is stored once, and both agreed meanwhile."""
    queue = new_queue(session_emulator().host)

    def configured(mode: str) -> str:
        return CONFIG.format(mode=mode, subscription=queue.subscription)

    with (
        pubsub_proxy(session_emulator().host) as proxy,  # the emulator would send on to servers that are gone
        proxy.as_emulator(),
        Server(tmp_path, configured('"webhook"')) as server,
    ):
        send(server, queue, range(STAGE))
        assert server.terminate() == 0

        server.config.write_text(configured('["webhook", "pubsub"]'))
        server.start()
        send(server, queue, range(STAGE, 2 * STAGE))
        wait_until(
            lambda: agreed(sources(server)["pubsub"]) == 2 * STAGE,
            PATIENCE_SECONDS,
            "the subscription was not caught up",
        )
        assert agreed(sources(server)["webhook"]) == STAGE
        assert sum(source["duplicate_kinds"]["overlap"] for source in sources(server).values()) == 2 * STAGE
        assert server.terminate() == 0

        server.config.write_text(configured('"pubsub"'))
        server.start()
        send(server, queue, range(2 * STAGE, 3 * STAGE), hooks=False)
        wait_until(
            lambda: agreed(sources(server)["pubsub"]) == STAGE, PATIENCE_SECONDS, "the subscription was not caught up"
        )

        assert stored(server) == Counter(message(number)[0].decode() for number in range(3 * STAGE))
        assert queue.left() == 0
