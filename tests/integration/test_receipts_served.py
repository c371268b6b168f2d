"""Receipts from a real server: on the wire, behind nginx, and after a kill."""

from __future__ import annotations

import gzip
import http.client
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.support.proxies import nginx
from tests.support.server import Server

CONFIG = """
[sources.fleet.webhook]
receipt = ["loc"]
auth = { type = "header", name = "X-Key", secrets = ["right"] }
"""
KEY = {"X-Key": "right"}
FORM = KEY | {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`headrace serve` on SQLite."""
    with Server(tmp_path_factory.mktemp("server"), CONFIG) as server:
        yield server


@pytest.fixture(scope="module", params=["direct", "nginx"])
def port(request: pytest.FixtureRequest, server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The server's port, or that of an nginx in front of it."""
    if request.param == "direct":
        yield server.port
    else:
        with nginx(tmp_path_factory.mktemp("nginx"), server.port) as port:
            yield port


@pytest.fixture
def connection(port: int) -> Iterator[http.client.HTTPConnection]:
    """One connection, which all requests of a test share."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        yield connection


def ask(
    connection: http.client.HTTPConnection, body: bytes, headers: dict[str, str] = KEY, method: str = "POST"
) -> tuple[int, bytes]:
    """Status and body of an answer."""
    connection.request(method, "/ingest/fleet", body, headers)
    response = connection.getresponse()
    return response.status, response.read()


def loc(number: int) -> bytes:
    """An event of its own."""
    return b'{"event":"loc","data":{"n":%d},"coreid":"d1","published_at":"2026-07-28T16:53:05.616Z"}' % number


def id_stored(folder: Path, number: int) -> str:
    """The id under which an event is in the database."""
    with closing(sqlite3.connect(folder / "headrace.db")) as database:
        [(id_,)] = database.execute("SELECT hex(id) FROM events WHERE data = ?", (b'{"n":%d}' % number,)).fetchall()
        return str(id_).lower()


def test_each_shape_is_answered_on_one_connection(
    connection: http.client.HTTPConnection, server: Server, port: int
) -> None:
    """JSON, gzip, chunks and PUT have receipts, a HEAD and a batch between them have none, and nothing is mixed up."""
    body, chunks = loc(port), (part for part in (loc(port)[:20], loc(port)[20:]))
    zipped = KEY | {"Content-Encoding": "gzip"}
    status, receipt = ask(connection, body)
    assert status == 200
    assert json.loads(receipt)["id"].replace("-", "") == id_stored(server.folder, port)

    assert ask(connection, gzip.compress(body), zipped) == (200, receipt)
    assert ask(connection, body, method="HEAD") == (405, b"")
    assert ask(connection, b"[" + body + b"]") == (204, b"")
    assert ask(connection, body, method="PUT") == (200, receipt)
    assert ask(connection, gzip.compress(b"[" + body + b"]"), zipped) == (204, b"")
    connection.request("POST", "/ingest/fleet/", chunks, KEY, encode_chunked=False)
    assert (response := connection.getresponse()).status == 200
    assert (response.headers["content-type"], response.read()) == ("application/json", receipt)
    assert ask(connection, body, {}) == (401, ask(connection, body, {"X-Key": "wrong"})[1])
    assert ask(connection, b'{"event":"temperature"}') == (204, b"")


def test_a_form_without_a_time_has_a_receipt_of_its_own(connection: http.client.HTTPConnection) -> None:
    """Two readings that nothing tells apart are two events, and each is receipted."""
    receipts = [ask(connection, b"event=loc&data=7&coreid=d1", FORM) for _ in range(2)]
    assert [status for status, _ in receipts] == [200, 200]
    assert receipts[0] != receipts[1]


def test_the_receipts_are_in_the_metrics(tmp_path: Path) -> None:
    """The series is there at 0 before the first one."""
    series = 'headrace_ingest_responses_total{code="200",source="fleet"}'
    with Server(tmp_path, CONFIG) as server:
        with urlopen(f"{server.url}/metrics", timeout=10) as answer:
            assert f"{series} 0.0" in answer.read().decode()
        with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)) as connection:
            ask(connection, loc(1))
        with urlopen(f"{server.url}/metrics", timeout=10) as answer:
            assert f"{series} 1.0" in answer.read().decode()


def test_what_was_receipted_survives_a_kill(tmp_path: Path) -> None:
    """kill -9 right behind the receipt: the event is there, and its next copy has the same receipt."""
    with Server(tmp_path, CONFIG) as server:
        for number in range(3):
            with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)) as connection:
                first = ask(connection, loc(number))
            server.kill()
            assert json.loads(first[1])["id"].replace("-", "") == id_stored(tmp_path, number)
            server.start()
            with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)) as connection:
                assert ask(connection, loc(number)) == first
