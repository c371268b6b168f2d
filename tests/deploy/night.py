"""A deployment that something goes wrong in: one server, what sends to it, and a Prometheus with our rules."""

from __future__ import annotations

import http.server
import itertools
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx

from tests.deploy.prometheus import Prometheus, scraping, shortened
from tests.deploy.runbook import command_that_mends, first_command, run_in_shell
from tests.support.numbered import Numbered
from tests.support.server import Server, free_port, wait_until

READ_TOKEN = "read-token-of-the-night"
HOOK_SECRET = "hook-secret-of-the-night"
_LOAD_PER_SECOND = 20
_HANDLER = """
import asyncio
from pathlib import Path
from ingest import DeadLetter

async def on_event(event):
    if Path("broken").exists():
        raise DeadLetter("the rules are broken")
    while Path("slow").exists():
        await asyncio.sleep(0.2)
"""
_CONFIG = """
[access]
read_tokens = ["{read}"]
admin_tokens = ["admin-token-of-the-night"]
[store]
url = "{store}"
[sources.fleet]
product = "tracker"
[sources.fleet.webhook]
auth = {{ type = "header", name = "X-Particle-Key", secrets = ["{hook}"] }}
[sources.stream]
mode = "sse"
[sources.stream.sse]
url = "http://127.0.0.1:{upstream}/events"
token = "${{file:stream.token}}"
[handlers.rules]
type = "python"
call = "night_rules:on_event"
timeout = "5m"
from = "beginning"
[handlers.alerts]
type = "http"
url = "http://127.0.0.1:{receiver}/"
circuit = {{ failures = 5, probe = "1s" }}
"""


class Upstream:
    """An event stream that says nothing but that it is there, and a receiver; it can refuse the token, or be gone."""

    def __init__(self) -> None:
        self.port = free_port()
        self.status = 200
        self._server: http.server.ThreadingHTTPServer | None = None
        self._open: set[socket.socket] = set()

    def start(self) -> None:
        """Listen."""
        upstream = self

        class Stream(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if upstream.status != 200:
                    self.send_error(upstream.status)
                    return
                upstream._open.add(self.connection)
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.end_headers()
                with suppress(OSError):
                    while self.connection in upstream._open:
                        self.wfile.write(b":ok\n\n")
                        time.sleep(0.5)

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), Stream)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def cut(self) -> None:
        """End every stream."""
        for connection in list(self._open):
            self._open.discard(connection)
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def stop(self) -> None:
        """Be gone, if it is not."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        self.cut()


@dataclass
class Night:
    """What the faults are made in."""

    folder: Path
    server: Server
    upstream: Upstream
    receiver: Upstream
    prometheus: Prometheus
    store_file: Path
    sending: threading.Event

    def confirm(self, alert: str) -> str:
        """Return what the first command of the runbook prints."""
        return self.run(first_command(alert))

    def mend(self, alert: str, beginning: str) -> None:
        """Run the command of the runbook that begins so."""
        self.run(command_that_mends(alert, beginning))

    def run(self, command: str) -> str:
        """Run a command as an operator does, with the variables of the runbook; all that it printed."""
        known = {
            "URL": self.server.url,
            "READ_TOKEN": READ_TOKEN,
            "SOURCE": "fleet",
            "HANDLER": "rules",
            "STORE_FILE": str(self.store_file),
            "HEADRACE_CONFIG": str(self.server.config),
            "HEADRACE_SERVER__PORT": str(self.server.port),
        }
        return run_in_shell(command, known)


@contextmanager
def night(folder: Path, disk: Path | None = None) -> Iterator[Night]:
    """A deployment under a steady load in which nothing is wrong. `disk`: where its SQLite file is."""
    store = (disk or folder) / "night.db"
    upstream, receiver, sending = Upstream(), Upstream(), threading.Event()
    upstream.start()
    receiver.start()
    (folder / "stream.token").write_text("first")
    (folder / "night_rules.py").write_text(_HANDLER)
    config = _CONFIG.format(
        read=READ_TOKEN,
        hook=HOOK_SECRET,
        store=f"sqlite:///{store}",
        upstream=upstream.port,
        receiver=receiver.port,
    )
    rules = shortened(
        folder,
        seconds_a_minute=0.3,
        HeadraceHandlerLagging="> 300 -> > 5",
        HeadraceStoreNearlyFull=f"< 1e9 -> < {8e6 if disk else 0}; 86400 -> 30",
        HeadraceDuplicatesUnusual="> 100 -> > 20",
        HeadraceSourceSilent="/ 48 > 20 -> > 20",
    )
    server = Server(folder, config)
    try:
        with server, scraping(folder / "prometheus", [f"127.0.0.1:{server.port}"], rules, READ_TOKEN) as prometheus:
            events = Numbered("night", datetime.now(UTC))
            numbers = itertools.count()
            sending.set()
            with posting(server, lambda: events.body(next(numbers)), _LOAD_PER_SECOND, while_set=sending):
                made = Night(folder, server, upstream, receiver, prometheus, store, sending)
                wait_until(lambda: bool(prometheus.query("up == 1")), 30, prometheus.log_tail)
                prometheus.expect_calm()
                yield made
    finally:
        upstream.stop()
        receiver.stop()


@contextmanager
def posting(
    server: Server,
    body: Callable[[], bytes],
    per_second: int,
    *,
    secret: str = HOOK_SECRET,
    while_set: threading.Event | None = None,
) -> Iterator[None]:
    """Post to the webhook from a thread while the block lasts, whatever the answers are."""
    over = threading.Event()

    def post() -> None:
        headers = {"X-Particle-Key": secret}
        with httpx.Client(headers=headers, trust_env=False, timeout=20, verify=False) as client:  # noqa: S501
            while not over.wait(1 / per_second):
                if while_set is None or while_set.is_set():
                    with suppress(httpx.HTTPError):
                        client.post(f"{server.url}/ingest/fleet", content=body())

    thread = threading.Thread(target=post)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def an_event(name: str) -> bytes:
    """An event that is always the same one."""
    about = {"event": name, "data": "1", "published_at": "2026-07-28T16:53:05.616Z", "coreid": "e00fce68"}
    return json.dumps(about).encode()
