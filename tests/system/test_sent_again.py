"""Devices send their messages again, stamped anew: whichever way the copies come to a server, each is stored once."""

from __future__ import annotations

import json
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.support.emulator import Queue, new_queue, session_emulator
from tests.support.observed import duplicates
from tests.support.server import PATIENCE_SECONDS, Server, wait_until
from tests.support.told_stream import ToldStream

DEVICES, MESSAGES, COPIES = 3, 10, 4
CONFIG = """
[sources.fleet]
product = "tracker"
message_id = "/msg"
mode = ["webhook", "sse", "pubsub"]
[sources.fleet.sse]
url = "{stream}"
token = "t"
[sources.fleet.pubsub]
subscription = "{subscription}"
[sources.plain]
mode = "webhook"
"""

Members = dict[str, str]
Send = Callable[[Members], None]


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> Queue:
    """An empty queue."""
    host = session_emulator().host
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", host)
    return new_queue(host)


def copies() -> list[Members]:
    """Every copy of every message, mixed; each was stamped by itself."""
    sent = [
        {
            "event": "loc",
            "coreid": f"dev{device}",
            "data": json.dumps({"msg": message, "t": 21.5}),
            "published_at": f"2026-07-28T16:{device:02}:{message:02}.{copy:03}Z",
        }
        for device in range(DEVICES)
        for message in range(MESSAGES)
        for copy in range(COPIES)
    ]
    Random(1).shuffle(sent)
    return sent


def post(server: Server, members: Members, source: str = "fleet") -> None:
    """Send a webhook."""
    request = urllib.request.Request(f"{server.url}/ingest/{source}", json.dumps(members).encode())
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 204


def read(server: Server, path: str) -> Any:
    """An answer of the API."""
    with urllib.request.urlopen(f"{server.url}/api/v1/{path}", timeout=10) as answer:
        return json.load(answer)


def test_what_devices_send_again_is_stored_once(tmp_path: Path, queue: Queue) -> None:
    """By webhook, stream and subscription, mixed: one row of each message, and a sighting for each copy more."""
    with ToldStream() as stream, Server(tmp_path, CONFIG.format(stream=stream.url, **vars(queue))) as server:

        def publish(members: Members) -> None:
            attributes = {"event": members["event"], "device_id": members["coreid"]}
            queue.publish([(members["data"].encode(), {**attributes, "published_at": members["published_at"]})])

        ways: list[Send] = [
            lambda members: post(server, members),
            lambda members: stream.say(members["event"], members),
            publish,
        ]
        sent = copies()
        for number, members in enumerate(sent):
            ways[number % 3](members)
        more = len(sent) - DEVICES * MESSAGES
        wait_until(lambda: duplicates(server.url).total() == more, PATIENCE_SECONDS, "not every copy was counted")

        assert duplicates(server.url) == {"resend": more, "redelivery": 0, "overlap": 0, "redundant": 0}
        events = read(server, "events?limit=1000")["events"]
        assert Counter((event["device"], json.loads(event["data"])["msg"]) for event in events) == {
            (f"dev{device}", message): 1 for device in range(DEVICES) for message in range(MESSAGES)
        }
        seen = [read(server, f"events/{event['id']}")["sightings"] for event in events]
        assert [len(sightings) for sightings in seen] == [COPIES - 1] * len(events)
        counted = read(server, "sources")["sources"]
        assert sum(source["duplicate_kinds"]["resend"] for source in counted) == more

        post(server, sent[0], "plain")
        post(server, {**sent[0], "published_at": "2026-07-28T17:00:00Z"}, "plain")
        (plain,) = [source for source in read(server, "sources")["sources"] if source["source"] == "plain"]
        assert plain["counts"]["stored"] == 2
        assert server.terminate() == 0
