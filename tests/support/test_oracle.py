"""The oracle itself: it must see every kind of broken promise, or the chaos runs prove nothing."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from tests.support.connection import connect
from tests.support.database import Contents, Row
from tests.support.driver import Driver, Plan
from tests.support.ledger import Fate, Ledger
from tests.support.numbered import BODY_BYTES, Numbered, number_of
from tests.support.oracle import faults

STARTED = datetime(2026, 1, 1, tzinfo=UTC)
EVENTS = Numbered("r", STARTED)


def stored_data(number: int) -> bytes:
    """The data of an event as a store keeps it."""
    return msgspec.json.decode(EVENTS.body(number))["data"].encode()  # type: ignore[no-any-return]


def good() -> tuple[Contents, dict[str, Ledger]]:
    """Four events sent: three acknowledged and stored, one cut off and not stored."""
    ledger = Ledger(bytes([Fate.ACKNOWLEDGED, Fate.ACKNOWLEDGED, Fate.ACKNOWLEDGED, Fate.UNANSWERED]))
    rows = [Row(number + 1, bytes([number]), stored_data(number)) for number in range(3)]
    return Contents(rows, 3, {"stored": 3}), {"r": ledger}


def test_a_kept_promise_has_no_faults() -> None:
    """What was acknowledged is there once; what got no answer may or may not be."""
    contents, ledgers = good()
    assert faults(contents, ledgers) == []
    rows = [*contents.rows, Row(4, b"3", stored_data(3))]
    assert faults(Contents(rows, 4, {"stored": 4}), ledgers) == []


@pytest.mark.parametrize(
    ("number", "position", "head", "stored", "expected"),
    [
        pytest.param(None, None, 3, 2, "acknowledged in r but not stored: 1 (2)", id="lost"),
        pytest.param(1, 3, 3, 3, "stored more than once: 1 (('r', 1))", id="twice"),
        pytest.param(9, 3, 3, 3, "stored but never sent: 1 (('r', 9))", id="stranger"),
        pytest.param(2, 4, 4, 3, "positions are not 1..4: 3 rows, 1 (3) out of place", id="hole"),
        pytest.param(2, 3, 4, 3, "positions are not 1..4", id="head ahead of the rows"),
        pytest.param(2, 3, 2, 3, "positions are not 1..2", id="row beyond the head"),
        pytest.param(2, 3, 3, 4, "3 rows, but tallied stored - expired = 4", id="miscounted"),
    ],
)
def test_each_broken_promise_is_named(
    number: int | None, position: int | None, head: int, stored: int, expected: str
) -> None:
    """The third row is replaced by a wrong one, or is gone."""
    contents, ledgers = good()
    rows = list(contents.rows[:2])
    if number is not None and position is not None:
        rows.append(Row(position, b"other", stored_data(number)))
    found = faults(replace(contents, rows=rows, head=head, tallies={"stored": stored}), ledgers)
    assert any(fault.startswith(expected) for fault in found), found


def test_rows_of_the_other_kinds_are_compared_with_their_tallies() -> None:
    """A copy or a reject that was counted but not kept, or kept but not counted, is a fault."""
    contents, ledgers = good()
    tallies = {"stored": 3, "redelivery": 2, "overlap": 1, "rejected": 4}
    assert faults(replace(contents, tallies=tallies, sightings=3, rejects=4), ledgers) == []
    assert faults(replace(contents, tallies=tallies, sightings=2, rejects=5), ledgers) == [
        "2 sightings, but tallied duplicates = 3",
        "5 rejects, but tallied rejected = 4",
    ]


def test_numbered_bodies_are_the_same_each_time() -> None:
    """A number sent again is the very same event, and 300 bytes long."""
    assert EVENTS.body(1234567) == Numbered("r", STARTED).body(1234567)
    assert {len(EVENTS.body(number)) for number in (0, 7, 99_999, 5_000_000)} == {BODY_BYTES}
    assert number_of(stored_data(1234567)) == ("r", 1234567)
    assert EVENTS.batch(5, 2).split(b"\n") == [EVENTS.body(5), EVENTS.body(6)]


@asynccontextmanager
async def answering(answers: Iterator[bytes]) -> AsyncIterator[str]:
    """An HTTP server that gives these raw answers in turn; an empty one cuts the connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(BODY_BYTES)
                answer = next(answers)
                for at in range(0, len(answer), 7):  # in pieces, as a network may
                    writer.write(answer[at : at + 7])
                    await writer.drain()
                if not answer:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}/ingest/x"


NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 4\r\n\r\nbusy"


def plan_of(url: str, folder: Path, **rest: object) -> Plan:
    """A plan with one connection."""
    known = {"url": url, "run": "r", "started": STARTED, "folder": str(folder), "connections": 1}
    return msgspec.convert(known | rest, Plan)


async def test_the_driver_writes_down_what_it_was_answered(tmp_path: Path) -> None:
    """204 acknowledges, 503 is sent again, a cut leaves the number unanswered, anything else refuses it."""
    refused = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"
    script = iter([NO_CONTENT, BUSY, BUSY, NO_CONTENT, b"", refused])
    ledger = Ledger()
    async with answering(script) as url:
        report = await Driver(plan_of(url, tmp_path, count=4), ledger).run()
    assert report.answers == {"204": 2, "503": 2, "500": 1}
    assert report.cut == 1
    fates = {fate: ledger.numbers(fate) for fate in Fate if ledger.count(fate)}
    assert fates == {Fate.ACKNOWLEDGED: [0, 1], Fate.UNANSWERED: [2], Fate.REFUSED: [3]}


async def test_a_503_without_retry_after_is_noticed(tmp_path: Path) -> None:
    """Senders need to be told when to come again (RFC 9110, 10.2.3)."""
    bare = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
    async with answering(iter([bare, NO_CONTENT])) as url:
        report = await Driver(plan_of(url, tmp_path, count=1), Ledger()).run()
    assert report.answers["503 without Retry-After"] == 1


async def test_a_slow_server_cannot_hide_its_queue(tmp_path: Path) -> None:
    """At a steady rate latency counts from when a request was due: one stall delays all that were due meanwhile."""
    stall = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for turn in itertools.count():
            await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(BODY_BYTES)
            if turn == 0:
                await stall.wait()
            writer.write(NO_CONTENT)
            if turn == 19:
                break
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/ingest/x"
        asyncio.get_running_loop().call_later(0.2, stall.set)
        report = await Driver(plan_of(url, tmp_path, count=20, rate=1000.0), Ledger()).run()
    assert report.p50 > 0.15


async def test_a_dead_server_is_a_cut_connection() -> None:
    """A connection that ends before an answer raises, and so does the next exchange on it."""
    async with answering(iter([b""])) as url:
        connection = await connect("127.0.0.1", int(url.split(":")[2].split("/")[0]))
        request = b"POST / HTTP/1.1\r\n\r\n" + EVENTS.body(0)
        for _ in range(2):
            with pytest.raises(ConnectionError):
                await connection.exchange(request)
