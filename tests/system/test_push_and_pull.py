"""One topic, pushed and pulled: what the real emulator sends both ways is stored once."""

from __future__ import annotations

import json
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.emulator import make, new_queue, session_emulator
from tests.support.server import PATIENCE_SECONDS, Server, wait_until

CONFIG = """
[sources.fleet]
mode = ["webhook", "pubsub"]
[sources.fleet.pubsub]
subscription = "{subscription}"
"""
PARTICLES = {"device_id": "d1", "event": "temp", "published_at": "2026-07-28T16:53:05.616Z"}
MESSAGES = [
    (b'{"t":21.5}', PARTICLES),
    (b"", {**PARTICLES, "event": "spark/status"}),
    (b"\x00\xff\xfe", {**PARTICLES, "event": "binary"}),
    ("grüße".encode(), {"event": "without/time", "fw_version": "91"}),
]


def test_what_is_pushed_and_pulled_is_stored_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each message comes by both subscriptions of its topic: one event, seen twice, whichever came first.

    Also an event without a time of its own: it has that of its message.
    """
    host = session_emulator().host
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", host)
    pulled = new_queue(host)
    with Server(tmp_path, CONFIG.format(subscription=pulled.subscription)) as server:
        pushed = replace(pulled, subscription=f"{pulled.subscription}-push")
        make(pushed, push_config={"push_endpoint": f"{server.url}/ingest/fleet"})
        pulled.publish(MESSAGES)
        expected = {attributes["event"]: {"webhook", "pubsub"} for _, attributes in MESSAGES}
        wait_until(
            lambda: ways(server) == expected, PATIENCE_SECONDS, lambda: f"they came so: {ways(server)}", every=0.1
        )
        assert len(get(server, "events")["events"]) == len(MESSAGES)
        assert get(server, "rejects")["rejects"] == []


def ways(server: Server) -> dict[str, set[str]]:
    """By which modes each event has come."""
    found = {}
    for event in get(server, "events")["events"]:
        sightings = get(server, f"events/{event['id']}")["sightings"]
        found[event["name"]] = {event["mode"], *(seen["mode"] for seen in sightings)}
    return found


def get(server: Server, path: str) -> Any:
    """What the API says."""
    with urllib.request.urlopen(f"{server.url}/api/v1/{path}", timeout=10) as answer:
        return json.load(answer)
