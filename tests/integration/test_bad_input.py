"""The table of bad input against a real server on a real socket: what each gets, and that nothing is left of it."""

from __future__ import annotations

import base64
import gzip
import http.client
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.core.result import Ok

from tests.support.server import Server

CONFIG = """
[store]
inbox_events = 9000

[sources.fleet.webhook]
max_body = "256KiB"

[sources.locked.webhook]
auth = { type = "header", name = "X-Key", secrets = ["right"] }

[sources.strict.webhook]
on_reject = "refuse"
"""
MAX_BODY = 256 * 1024
AT = b'"published_at":"2026-07-28T16:53:05.616Z"'
ANSWERS = {204, 400, 413, 415, 422, 503}
SLACK_BYTES = 48 * 1024 * 1024


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`headrace serve` on SQLite."""
    with Server(tmp_path_factory.mktemp("server"), CONFIG) as server:
        yield server


@pytest.fixture(autouse=True)
def _stays_up(server: Server) -> Iterator[None]:
    """After every test the process is the same one, answers, and has logged no fault of ours."""
    pid = server.pid
    yield
    assert server.pid == pid
    assert post(server, b'{"event":"still here"}') == 204
    assert "Traceback" not in server.log_tail()
    assert '"level": "error"' not in server.log_tail()


def post(server: Server, body: bytes, headers: dict[str, str] | None = None, *, label: str = "fleet") -> int:
    """The status of a webhook; a 204 is empty."""
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)) as connection:
        connection.request("POST", f"/ingest/{label}", body, headers or {})
        response = connection.getresponse()
        assert (response.status == 204) == (response.read() == b"")
        return response.status


def select(server: Server, statement: str) -> list[Any]:
    """Rows of the server's database."""
    with closing(sqlite3.connect(server.folder / "headrace.db")) as connection:
        return connection.execute(statement).fetchall()


def last(server: Server, table: str) -> int:
    """The highest key of a table."""
    key = "position" if table == "events" else "id"
    return int(select(server, f"SELECT coalesce(max({key}), 0) FROM {table}")[0][0])  # noqa: S608


def resident_bytes(server: Server) -> int:
    """How much memory the process holds."""
    status = Path(f"/proc/{server.pid}/status").read_text()
    return 1024 * int(status.partition("VmRSS:")[2].split()[0])


@pytest.mark.parametrize("headers", [{}, {"X-Key": "wrong"}, {"X-Key": "right\xe9"}, {"Authorization": "Bearer right"}])
def test_wrong_credentials_are_401_and_nothing_is_stored(server: Server, headers: dict[str, str]) -> None:
    """Without the secret no body is looked at; with it the same body is stored."""
    before = last(server, "events"), last(server, "rejects")
    for body in (b'{"event":"a"}', b"{", gzip.compress(b"{}")):
        assert post(server, body, headers, label="locked") == 401
    assert (last(server, "events"), last(server, "rejects")) == before
    assert post(server, b'{"event":"a"}', {"X-Key": "right"}, label="locked") == 204


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b" " * (MAX_BODY + 1), {}),
        (b" " * 5_000_000, {}),
        (gzip.compress(b" " * (MAX_BODY + 1)), {"Content-Encoding": "gzip"}),
        (gzip.compress(b'{"event":"' + b"a" * 100_000_000 + b'"}'), {"Content-Encoding": "gzip"}),
        (gzip.compress(gzip.compress(b"0" * 10_000_000)) * 500, {"Content-Encoding": "gzip"}),
        (b"[" + b"0," * 10_000 + b"0]", {}),
        (b"\n".join([b'{"event":"a"}'] * 10_001), {}),
        (b"[" + b"{}," * 9_000 + b"{}]", {}),
    ],
    ids=["a byte", "5 MB", "inflated", "a bomb", "bombs", "10,001 items", "10,001 lines", "more than the inbox"],
)
def test_too_much_is_413_and_nothing_is_stored(server: Server, body: bytes, headers: dict[str, str]) -> None:
    """Too large, inflated or not, too many, or more than the inbox ever holds."""
    before = last(server, "events"), last(server, "rejects")
    assert post(server, body, headers) == 413
    assert (last(server, "events"), last(server, "rejects")) == before


FORM = {"Content-Type": "application/x-www-form-urlencoded"}  # the default; a brace makes it JSON all the same
REJECTED: list[tuple[bytes, list[str]]] = [
    (b"", ["empty"]),
    (b"   \r\n", ["empty"]),
    (b'{"event":', ["malformed_json"]),
    (b'{"event":"a",}', ["malformed_json"]),
    (b'[{"event":"a"', ["malformed_json"]),
    (b"no form at all", ["malformed_form"]),
    (b"<xml/>", ["malformed_form"]),
    (b'"a string"', ["not_an_object"]),
    (b"21.5", ["not_an_object"]),
    (b"null", ["not_an_object"]),
    (b"[1,[],null]", ["not_an_object"] * 3),
    (b"{}", ["missing_name"]),
    (b'{"event":""}', ["missing_name"]),
    (b'{"event":null}', ["missing_name"]),
    (b"data=1&coreid=a", ["missing_name"]),
    (b'{"event":7}', ["bad_name"]),
    (b'{"event":{}}', ["bad_name"]),
    (b'{"event":"a\\u0000b"}', ["bad_name"]),
    (b'{"event":"a\\nb"}', ["bad_name"]),
    (b"event=a%00b", ["bad_name"]),
    (b'{"event":"%b"}' % (b"a" * 257), ["bad_name"]),
    (b'{"event":"a","coreid":"\\u0000"}', ["bad_device"]),
    (b'{"event":"a","coreid":"%b"}' % (b"d" * 257), ["bad_device"]),
    (b'{"event":"a","coreid":{}}', ["bad_device"]),
    (b'{"event":"a","published_at":"yesterday"}', ["bad_time"]),
    (b'{"event":"a","published_at":"2026-02-30T00:00:00Z"}', ["bad_time"]),
    (b"event=a&published_at=never", ["bad_time"]),
    (b'{"event":"a","data":%b1%b}' % (b"[" * 65, b"]" * 65), ["too_deep"]),
    (b'{"event":"a","data":%b}' % (b"[" * 100_000), ["malformed_json"]),
    (b'{"event":"\xff"}', ["invalid_utf8"]),
    (b'{"event":"a","coreid":"\xc3"}', ["invalid_utf8"]),
    (b"event=%ff", ["invalid_utf8"]),
]


@pytest.mark.parametrize(("body", "reasons"), REJECTED, ids=[str(body[:30]) for body, _ in REJECTED])
def test_what_cannot_be_decoded_is_kept_with_its_reason(server: Server, body: bytes, reasons: list[str]) -> None:
    """Authentic but undecodable: 204 and a reject for each element, 422 where the source is so configured."""
    before = last(server, "rejects"), last(server, "events")
    assert post(server, body, FORM) == 204
    kept = select(server, f"SELECT reason FROM rejects WHERE id > {before[0]} ORDER BY id")  # noqa: S608
    assert [reason for (reason,) in kept] == reasons
    assert last(server, "events") == before[1]
    assert post(server, body, FORM, label="strict") == 422
    assert last(server, "rejects") == before[0] + 2 * len(reasons)


@pytest.mark.parametrize(
    ("body", "names", "reasons"),
    [
        (b'{"event":"n1"}\n{"event":', ["n1"], ["truncated"]),
        (b'{"event":"n2"}\r\n\r\n{"event":"n3"}\n', ["n2", "n3"], []),
        (b'{"event":"n4"}\nnonsense\n{"event":"n5"}', ["n4", "n5"], ["malformed_json"]),
        (b'[{"event":"n6"},{"event":""},{"event":"n7"},8]', ["n6", "n7"], ["missing_name", "not_an_object"]),
        (b'[{"event":"n8","coreid":"\\u0001"},{"event":"n9"}]', ["n9"], ["bad_device"]),
    ],
)
def test_neighbours_are_stored(server: Server, body: bytes, names: list[str], reasons: list[str]) -> None:
    """One bad element in a batch costs the others nothing."""
    event, reject = last(server, "events"), last(server, "rejects")
    assert post(server, body) == 204
    stored = select(server, f"SELECT name FROM events WHERE position > {event} ORDER BY position")  # noqa: S608
    kept = select(server, f"SELECT reason FROM rejects WHERE id > {reject} ORDER BY id")  # noqa: S608
    assert ([name for (name,) in stored], [reason for (reason,) in kept]) == (names, reasons)


BINARY = base64.b64encode(bytes(range(256)))
STORED: list[tuple[bytes, bytes | None]] = [
    (b'{"event":"s","data":"1",%b}' % AT, b"1"),
    (b'{"event":"s","data":"2","coreid":null,%b}' % AT, b"2"),
    (b'{"event":"s","data":"3","coreid":"ger\xc3\xa4t \xf0\x9f\x8c\xa1",%b}' % AT, b"3"),
    (b'{"event":"s","data":"4"}', b"4"),
    (b'{"event":"s","data":"5","published_at":""}', b"5"),
    (b'{"event":"s","data":"6","published_at":"0001-01-01T00:00:00Z"}', b"6"),
    (b'{"event":"s","data":"7","published_at":"9999-12-31T23:59:59.999Z"}', b"7"),
    (b'{"event":"s","data":NaN,%b}' % AT, b"NaN"),
    (b'{"event":"s","data":{"a":-Infinity},%b}' % AT, b'{"a":-Infinity}'),
    (b'{"event":"s","data":1e999999,%b}' % AT, b"1e999999"),
    (b'{"event":"s","data":%b,%b}' % (b"9" * 20_000, AT), b"9" * 20_000),
    (b'{"event":"s","data":{"a":1,"a":2},%b}' % AT, b'{"a":1,"a":2}'),
    (b'{"event":"s","data":"\\ud800",%b}' % AT, b"\xed\xa0\x80"),
    (b'{"event":"s","data":"\xff\xfe",%b}' % AT, b"\xff\xfe"),
    (b'{"event":"s","data":"a\\u0000b",%b}' % AT, b"a\x00b"),
    (b'{"event":"s","data":"data:application/octet-stream;base64,%b",%b}' % (BINARY, AT), None),
    (b'{"event":"s","data":{"d":%b},%b}' % (b"[" * 60 + b"]" * 60, AT), b'{"d":%b}' % (b"[" * 60 + b"]" * 60)),
    (b'{"event":"s","data":"%b",%b}' % (b"x" * 200_000, AT), b"x" * 200_000),
    (b"event=s&data=%00%ff&published_at=2026-07-28T16%3A53%3A05.616Z", b"\x00\xff"),
]


@pytest.mark.parametrize(("body", "data"), STORED, ids=[str(body[11:50]) for body, _ in STORED])
def test_what_is_odd_but_valid_is_stored_as_sent(server: Server, body: bytes, data: bytes | None) -> None:
    """Absurd is not wrong: it is stored with the bytes that were sent, and the API can show it."""
    before = last(server, "events")
    assert post(server, body, FORM) == 204
    ((stored, id_),) = select(server, f"SELECT data, id FROM events WHERE position > {before}")  # noqa: S608
    if data is not None:
        assert stored == data
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)) as connection:
        connection.request("GET", f"/api/v1/events?after={before}")
        shown = json.loads(connection.getresponse().read())["events"]
    assert [event["id"].replace("-", "") for event in shown] == [id_.hex()]


def test_no_such_path_and_no_such_method(server: Server) -> None:
    """404 and 405 are problem descriptions; a trailing slash and PUT are accepted."""
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)) as connection:
        for method, path, code in [
            ("POST", "/ingest/nobody", 404),
            ("POST", "/ingest", 404),
            ("GET", "/ingest/fleet", 405),
            ("DELETE", "/ingest/fleet", 405),
            ("PUT", "/ingest/fleet/", 204),
        ]:
            connection.request(method, path, b'{"event":"a"}')
            response = connection.getresponse()
            body = response.read()
            assert (method, path, response.status) == (method, path, code)
            assert code == 204 or json.loads(body)["status"] == code


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=4), values, max_size=3),
    max_leaves=6,
)
particle = st.fixed_dictionaries(
    {},
    optional={
        name: json_values | st.text(max_size=300) | st.just("2026-07-28T16:53:05.616Z")
        for name in ("event", "data", "coreid", "published_at", "fw_version", "\ud800")
    },
)
documents = (particle | json_values | st.lists(particle, max_size=4)).map(lambda value: json.dumps(value).encode())


@st.composite
def damaged(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """A good body with a piece cut out or put in."""
    body = draw(whole)
    start = draw(st.integers(0, len(body)))
    return body[:start] + draw(st.binary(max_size=8)) + body[start + draw(st.integers(0, 8)) :]


bodies = st.one_of(
    st.binary(max_size=500),
    documents,
    damaged(documents),
    st.lists(documents, max_size=3).map(b"\n".join),
    damaged(st.lists(st.binary(max_size=30), max_size=8).map(b"&event=".join)),
    st.integers(1, 2_000).map(lambda depth: b'{"event":"deep","data":' + b'{"a":[' * depth),
)
headers_ = st.fixed_dictionaries(
    {},
    optional={
        "Content-Type": st.sampled_from(["application/json", "application/x-www-form-urlencoded", "text/plain", ""]),
        "Content-Encoding": st.sampled_from(["gzip", "identity", "br", ""]),
    },
)


def test_two_thousand_fuzzed_bodies(server: Server) -> None:
    """Whatever is sent, the answer is one of the table, never a 500, and the memory stays flat."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)

    def send(body: bytes, headers: dict[str, str], *, compress: bool) -> None:
        connection.request("POST", "/ingest/fleet", gzip.compress(body) if compress else body, headers)
        response = connection.getresponse()
        response.read()
        assert response.status in ANSWERS

    def fuzz(examples: int) -> None:
        @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(body=bodies, headers=headers_, compress=st.booleans())
        def one(body: bytes, headers: dict[str, str], compress: bool) -> None:
            send(body, headers, compress=compress)

        one()

    fuzz(300)
    before = resident_bytes(server)
    fuzz(2000)
    connection.close()
    assert resident_bytes(server) - before < SLACK_BYTES


def test_memory_stays_flat_under_large_bodies(server: Server) -> None:
    """A thousand bodies at the limit, stored, refused, inflated or kept aside, leave no memory behind."""
    large = [
        (b'{"event":"large","data":"%b"}' % (b"x" * 250_000), {}),
        (b"{" * 250_000, {}),
        (b" " * 1_000_000, {}),
        (gzip.compress(b"0" * 50_000_000), {"Content-Encoding": "gzip"}),
        (b'{"event":"many",%b}' % b",".join(b'"a%d":1' % n for n in range(20_000)), {}),
    ]
    for body, headers in large * 10:
        post(server, body, headers)
    before = resident_bytes(server)
    for body, headers in large * 60:
        assert post(server, body, headers) in {204, 413}
    assert resident_bytes(server) - before < SLACK_BYTES


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["valid", "invalid"])
def test_the_documented_webhook_answers_as_documented(server: Server, mode: GenerationMode) -> None:
    """Requests made from the OpenAPI document of /ingest get only answers that it names."""
    document = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    asked = 0
    for result in document.include(path_regex="^/ingest/fleet$").get_all_operations():
        assert isinstance(result, Ok)
        operation = result.ok()

        @settings(max_examples=25, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case: schemathesis.Case[Any]) -> None:
            nonlocal asked
            response = case.call(timeout=20)
            assert str(response.status_code) in case.operation.definition.raw["responses"]
            assert response.status_code < 500
            asked += 1

        ask()
    assert asked > 10
