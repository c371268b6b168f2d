"""An organisation's stream, an owner's hook and a product's hook bring one event, which is one row of its product."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.support.server import PATIENCE_SECONDS, Server, wait_until

CONFIG = """
[sources.all]
product = { from = "/product_id", map = { "13961" = "tracker", 7 = "monitor" }, default = "rest" }
mode = ["webhook", "sse"]
[sources.all.sse]
url = "http://127.0.0.1:%d/v1/devices/events"

[sources.fleet]
product = "tracker"

[handlers.trackers]
type = "python"
call = "seen:note"
products = ["tracker"]
from = "beginning"
"""
HANDLER = """
def note(event):
    with open("seen.txt", "a") as file:
        file.write(f"{event.product} {event.name}\\n")
"""


class Upstream(BaseHTTPRequestHandler):
    """Says three events of an organisation, and then that it is alive."""

    protocol_version = "HTTP/1.0"

    def do_GET(self) -> None:
        """Answer with a stream."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for name, product in (("temp", 13961), ("level", "7"), ("other", 99)):
            said = {"data": '{"t":21.5}', "published_at": "2026-07-28T16:53:05.616Z", "coreid": "d1"}
            text = json.dumps({**said, "productID": product, "ttl": 60, "public": False})
            self.wfile.write(f"event: {name}\ndata: {text}\n\n".encode())
        while not self.server.is_over.wait(1.0):  # type: ignore[attr-defined]
            try:
                self.wfile.write(b"\n")
            except OSError:
                return

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def upstream() -> Iterator[int]:
    """The stream on a port of this machine."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Upstream) as server:
        server.is_over = threading.Event()  # type: ignore[attr-defined]
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield server.server_port
        finally:
            server.is_over.set()  # type: ignore[attr-defined]
            server.shutdown()
            serving.join()


def post(server: Server, label: str, **members: Any) -> None:
    """Send a webhook."""
    body = json.dumps({"coreid": "d1", "published_at": "2026-07-28T18:53:05.616+02:00", **members}).encode()
    request = urllib.request.Request(f"{server.url}/ingest/{label}", body, method="POST")
    with urllib.request.urlopen(request, timeout=20) as answer:
        assert answer.status == 204


def get(server: Server, path: str) -> Any:
    """What the API says."""
    with urllib.request.urlopen(f"{server.url}{path}", timeout=10) as answer:
        return json.load(answer)


def test_one_event_by_three_ways_is_one_row(tmp_path: Path) -> None:
    """The copies are sightings; filters by product, of the API and of handlers, find the event under its own."""
    (tmp_path / "seen.py").write_text(HANDLER)
    with upstream() as port, Server(tmp_path, CONFIG % port) as server:
        owners = {"event": "temp", "product_id": "13961", "data": {"t": 21.5}}
        post(server, "all", **owners)
        post(server, "fleet", event="temp", data='{"t": 21.5}', fw_version=91)
        post(server, "all", event="unknown", data="1")
        wait_until(lambda: len(get(server, "/api/v1/events")["events"]) == 4, PATIENCE_SECONDS, "not all are stored")

        found = get(server, "/api/v1/events?product=tracker")["events"]
        assert [event["name"] for event in found] == ["temp"]
        sightings = f"/api/v1/events/{found[0]['id']}"
        wait_until(lambda: len(get(server, sightings)["sightings"]) == 2, PATIENCE_SECONDS, "not all copies are seen")
        others = {product: _names(server, product) for product in ("monitor", "rest", "all", "fleet")}
        assert others == {"monitor": ["level"], "rest": ["other", "unknown"], "all": [], "fleet": []}
        seen = tmp_path / "seen.txt"
        wait_until(seen.exists, PATIENCE_SECONDS, "the handler was given nothing")
        post(server, "fleet", event="last", data=str(time.time()))
        wait_until(lambda: "last" in seen.read_text(), PATIENCE_SECONDS, "the handler stopped")
        assert seen.read_text().split("\n") == ["tracker temp", "tracker last", ""]


def _names(server: Server, product: str) -> list[str]:
    return sorted(event["name"] for event in get(server, f"/api/v1/events?product={product}")["events"])
