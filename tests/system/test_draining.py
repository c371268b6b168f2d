"""A server that drains, as a load balancer with open connections sees it. Imports nothing of the product."""

from __future__ import annotations

import http.client
import json
import os
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.server import Server, wait_until

CONFIG = '[server]\ndrain_delay = "4s"\n'
EVENT = b'{"event":"temperature","data":"21.5","published_at":"2026-07-28T16:53:05.616Z","coreid":"e00fce68"}'


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """One that takes four seconds between failing readyz and refusing."""
    with Server(tmp_path, CONFIG) as server:
        yield server


def connected(server: Server) -> http.client.HTTPConnection:
    """Return a connection on which a request was answered, and that is open."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    assert post(connection) == (204, None)
    connection.auto_open = 0
    return connection


def post(connection: http.client.HTTPConnection) -> tuple[int, str | None]:
    """Post an event; the status and what the answer says of the connection."""
    connection.request("POST", "/ingest/default", EVENT)
    answer = connection.getresponse()
    answer.read()
    return answer.status, answer.getheader("Connection")


def is_refused(server: Server) -> bool:
    """Whether nobody listens any more."""
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)) as connection:
        try:
            connection.connect()
        except ConnectionRefusedError:
            return True
    return False


def test_draining_never_resets_a_request(server: Server) -> None:
    """Open connections stay, new ones are taken; each is answered 204 with close; then the server refuses and ends."""
    with closing(connected(server)) as one, closing(connected(server)) as another:
        server.signal(signal.SIGTERM)
        probe = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        wait_until(lambda: not_ready(probe), 10, "readyz does not fail")
        assert post(one) == (204, "close")
        assert one.sock is None, "it was not closed after its answer"
        fresh = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        assert post(fresh) == (204, "close")
        assert post(another) == (204, "close")
        wait_until(lambda: is_refused(server), 20, "still listening")
        assert server.wait() == 0


def not_ready(probe: http.client.HTTPConnection) -> bool:
    """Whether readyz is 503, and its answer closes."""
    probe.request("GET", "/readyz")
    answer = probe.getresponse()
    answer.read()
    return answer.status == 503 and answer.getheader("Connection") == "close"


def test_a_request_that_is_under_way_at_the_end_is_stored(tmp_path: Path) -> None:
    """One whose body comes while the server refuses others already is answered 204, not 503."""
    with Server(tmp_path, '[server]\ndrain_delay = "0s"\n') as server, closing(connected(server)) as late:
        late.putrequest("POST", "/ingest/default")
        late.putheader("Content-Length", str(len(EVENT)))
        late.endheaders(EVENT[:10])
        server.signal(signal.SIGTERM)
        wait_until(lambda: is_refused(server), 20, "still listening")
        late.send(EVENT[10:])
        assert late.getresponse().status == 204
        assert server.wait() == 0


def test_a_hangup_ends_nothing(tmp_path: Path) -> None:
    """SIGHUP is logged and ignored, by the service and by the process that writes for it; SIGINT skips a long delay."""
    with Server(tmp_path, '[server]\ndrain_delay = "1h"\n') as server, closing(connected(server)) as sender:
        os.killpg(server.pid, signal.SIGHUP)
        wait_until(lambda: "sighup_ignored" in server.log_tail(), 20, "it was not logged")
        assert post(sender) == (204, None)
        server.signal(signal.SIGTERM)
        server.signal(signal.SIGINT)
        assert server.wait() == 0


def test_a_secret_outlives_its_file_and_is_named(tmp_path: Path) -> None:
    """Where the file of a secret was deleted, the secret stays valid, and the log and readyz's body name its key."""
    (tmp_path / "key").write_text("hush")
    config = """[sources.default.webhook]
auth = { type = "header", name = "X-Key", secrets = ["${file:key}"] }
"""
    with Server(tmp_path, config) as server, closing(http.client.HTTPConnection("127.0.0.1", server.port)) as client:
        (tmp_path / "key").unlink()
        wait_until(lambda: "secret_not_read" in server.log_tail(), 20, "it was not logged")
        client.request("GET", "/readyz")
        with client.getresponse() as answer:
            named = json.loads(answer.read())["secrets_unread"]
        assert (answer.status, named) == (
            200,
            [{"secret": "sources.default.webhook.auth.secrets[0]", "reason": "its file is gone"}],
        )
        client.request("POST", "/ingest/default", EVENT, {"X-Key": "hush"})
        assert client.getresponse().status == 204
