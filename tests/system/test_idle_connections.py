"""Many idle connections and few descriptors: who speaks is heard."""

from __future__ import annotations

import resource
import socket
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.support.server import Server

DESCRIPTORS = 256
COUNT = 400
ASK = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(autouse=True)
def _many_sockets() -> None:
    """The test itself needs more than many systems give by default."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 2 * COUNT:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(2 * COUNT, hard), hard))


def asks(client: socket.socket) -> bool:
    """Whether /livez is answered on a connection."""
    try:
        client.sendall(ASK)
        answer = b""
        while not answer.endswith(b"}"):
            received = client.recv(1000)
            if not received:
                return False
            answer += received
    except OSError:
        return False
    return answer.startswith(b"HTTP/1.1 200")


def is_open(client: socket.socket) -> bool:
    """Whether the server has left a connection open."""
    client.setblocking(False)
    try:
        return client.recv(1000) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def connect(server: Server, clients: ExitStack) -> socket.socket:
    """A connection that stays."""
    return clients.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=10))


def test_the_longest_idle_make_room(tmp_path: Path) -> None:
    """Each newcomer is answered, however many stay behind it; those that spoke last are still connected."""
    with Server(tmp_path, "") as server, ExitStack() as clients:
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
        connections = []
        for number in range(COUNT):
            connections.append(connect(server, clients))
            assert asks(connections[-1]), f"number {number} got no answer\n{server.log_tail()}"

        kept = {number for number, client in enumerate(connections) if is_open(client)}
        assert not kept & set(range(COUNT - DESCRIPTORS))
        assert kept >= set(range(COUNT - DESCRIPTORS // 2, COUNT))


BODY = b"POST /ingest/default HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{"


@pytest.mark.parametrize("sent", [b"", b"GET /livez HT", BODY], ids=["silent", "half a head", "half a body"])
def test_strangers_who_ask_for_nothing_shut_nobody_out(tmp_path: Path, sent: bytes) -> None:
    """A newcomer is answered beside a crowd that says nothing, or nothing whole."""
    with Server(tmp_path, "") as server, ExitStack() as clients:
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
        crowd = [connect(server, clients) for _ in range(COUNT)]
        for client in crowd:
            with suppress(OSError):
                client.sendall(sent)

        def answers() -> bool:
            with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
                return asks(client)

        assert answers(), f"/livez is shut out\n{server.log_tail()}"
        assert any(map(is_open, crowd))  # it is beside them, not after them
