"""A server with an `http` handler, and a receiver as its users write one. Imports nothing of the product."""

from __future__ import annotations

import json
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from standardwebhooks import Webhook

from tests.support.server import PATIENCE_SECONDS, Server, wait_until
from tests.system.test_cli import headrace

SECRET = "whsec_aHVzaC1odXNoLTAxMjM0NTY3"
TOKEN = "hush-hush-token"
CONFIG = """
[handlers.alerts]
type = "http"
url = "http://127.0.0.1:{port}/alerts"
secrets = ["${{SIGNING}}"]
auth = {{ type = "bearer", token = "${{TOKEN}}" }}
headers = {{ X-Api-Key = "${{TOKEN}}" }}
exclude = ["debug/"]
devices = ["d1"]
from = "beginning"
retry = {{ base = "1ms", cap = "10ms", attempts = 3 }}
"""


class Inbox:
    """What was received and verified, by id of the event; `status` is answered, with the request's head as body."""

    def __init__(self) -> None:
        self.events: dict[str, dict[str, object]] = {}
        self.status = 204
        self.port = 0


@contextmanager
def receiving() -> Iterator[Inbox]:
    """A receiver that verifies the signature and keeps events by their id."""
    inbox = Inbox()

    class Receiver(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            """Verify, keep, answer."""
            body = self.rfile.read(int(self.headers["Content-Length"]))
            event = Webhook(SECRET).verify(body, dict(self.headers))
            inbox.events[self.headers["webhook-id"]] = event
            answer = b"" if inbox.status == 204 else bytes(self.headers)
            self.send_response(inbox.status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_arguments: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        inbox.port = server.server_address[1]
        try:
            yield inbox
        finally:
            server.shutdown()
            thread.join()


def post(server: Server, name: str, device: str = "d1") -> None:
    """Send an event, which is committed then."""
    body = json.dumps({"event": name, "coreid": device, "data": '{"t":1}', "published_at": "2026-07-28T16:53:05.616Z"})
    request = urllib.request.Request(f"{server.url}/ingest/default", body.encode(), method="POST")
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 204


def test_events_reach_a_receiver(tmp_path: Path) -> None:
    """Signed, as CloudEvents, those that the filters want; and no secret is in the log or in a dead letter."""
    with (
        receiving() as inbox,
        Server(tmp_path, CONFIG.format(port=inbox.port), environment={"SIGNING": SECRET, "TOKEN": TOKEN}) as server,
    ):
        for name, device in (("debug/x", "d1"), ("alarm/fire", "d1"), ("alarm/fire", "d2"), ("status", "d1")):
            post(server, name, device)
        wait_until(lambda: len(inbox.events) >= 2, PATIENCE_SECONDS, "the events do not arrive")
        assert [(event["type"], event["subject"], event["data"]) for event in inbox.events.values()] == [
            ("alarm/fire", "d1", {"t": 1}),
            ("status", "d1", {"t": 1}),
        ]
        inbox.status = 500
        post(server, "alarm/again")
        dead = ""

        def is_dead() -> bool:
            nonlocal dead
            with urllib.request.urlopen(f"{server.url}/api/v1/handlers/alerts/dead", timeout=10) as answer:
                dead = answer.read().decode()
            return "alarm/again" in dead

        wait_until(is_dead, PATIENCE_SECONDS, "no dead letter")
        assert "answered 500" in dead
        assert server.terminate() == 0
        shown = dead + server.log.read_text()
        assert not [secret for secret in (SECRET, SECRET.removeprefix("whsec_"), TOKEN) if secret in shown]


def check(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Check the configuration of this folder."""
    return headrace(folder, "check", *options, SIGNING=SECRET, TOKEN=TOKEN)


def test_check_builds_the_handler(tmp_path: Path) -> None:
    """It says so, and shows no secret; what it is configured with is there."""
    (tmp_path / "headrace.toml").write_text(CONFIG.format(port=9))
    done = check(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "handlers.alerts: can be called" in done.stdout
    assert "hush" not in done.stdout
    assert SECRET not in done.stdout


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ('tls = { ca = "absent.pem" }', "handlers.alerts.tls.ca: expected a file that is there"),
        ('tls = { ca = "headrace.toml" }', "handlers.alerts.tls: expected PEM files that belong together"),
        ('pause_on = "x"', "handlers.alerts.pause_on[0]: expected a whole number"),
        ("headers.Webhook-Id = 'x'", "handlers.alerts.headers"),
    ],
)
def test_check_finds_what_cannot_work(tmp_path: Path, line: str, fault: str) -> None:
    """Before anything is delivered: one sentence that names the key, and exit code 2."""
    lines = [each for each in CONFIG.format(port=9).splitlines() if not each.startswith("headers")]
    (tmp_path / "headrace.toml").write_text("\n".join([*lines, line]))
    done = check(tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(fault)
    assert done.stderr.count("\n") == 1
