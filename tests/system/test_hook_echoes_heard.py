"""A server hears in a stream what the vendor says of its webhooks, counts that, and shows it beside what was stored."""

from __future__ import annotations

import json
import urllib.request
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.support.server import PATIENCE_SECONDS, Server, wait_until
from tests.support.told_stream import ToldStream

CONFIG = """
[sources.fleet]
product = "tracker"
mode = ["webhook", "sse"]
[sources.fleet.sse]
url = "{stream}"
token = "t"
"""
SLEEPING = "Sleeping, too many errors on hooks.example.com"
SAID = [
    *[("hook-sent/loc", "")] * 3,
    ("hook-response/loc/0", "ok"),
    ("hook-error/loc/0", "error status 503 from hooks.example.com"),
    *[("hook-error/loc/0", SLEEPING)] * 2,
    ("e00fce/hook-error/alarm/0", SLEEPING),
]
COUNTS = {"sent": 3, "response": 1, "error": 1, "skipped": 3}
NOTHING = dict.fromkeys(COUNTS, 0)


def read(server: Server, path: str) -> Any:
    """An answer of the API."""
    with urllib.request.urlopen(f"{server.url}/api/v1/{path}", timeout=10) as answer:
        return json.load(answer)


def heard(server: Server) -> dict[str, dict[str, int]]:
    """What each mode heard."""
    return {source["mode"]: source["hook_echoes"] for source in read(server, "sources")["sources"]}


def tallied(server: Server) -> dict[str, Counter[str]]:
    """What is tallied by name, over the hours; and what was stored."""
    found: dict[str, Counter[str]] = {}
    for row in read(server, "hook-echoes?source=fleet")["hook_echoes"]:
        assert row["mode"] == "sse"
        counts = {outcome: row[outcome] for outcome in (*COUNTS, "stored")}
        found.setdefault(row["name"], Counter()).update(counts)
    return found


def test_the_vendors_word_is_counted_and_tallied(tmp_path: Path) -> None:
    """By mode and outcome since the start, by hour and name also over a restart; none of it is an event."""
    at = datetime.now(UTC).isoformat()
    stream = ToldStream()
    with Server(tmp_path, CONFIG.format(stream=stream.url)) as server:
        with stream:
            for name, data in SAID:
                stream.say(name, {"data": data, "published_at": at, "coreid": "particle-internal"})
            stream.say("loc", {"data": "1", "published_at": at, "coreid": "dev1"})
            wait_until(lambda: read(server, "events")["events"] != [], PATIENCE_SECONDS, "the stream was not heard")

        assert heard(server) == {"webhook": NOTHING, "sse": COUNTS}
        assert [event["name"] for event in read(server, "events")["events"]] == ["loc"]
        expected = {
            "loc": {**COUNTS, "skipped": 2, "stored": 1},
            "alarm": {**NOTHING, "skipped": 1, "stored": 0},
        }
        assert tallied(server) == expected

        server.kill()
        server.start()
        assert heard(server) == {"webhook": NOTHING, "sse": NOTHING}
        assert tallied(server) == expected
        assert server.terminate() == 0
