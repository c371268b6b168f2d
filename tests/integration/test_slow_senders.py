"""Connections on which a request is not finished, or never meant to be: closed after a time, and nothing is left."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from app.sender_bounds import Bounds
from app.server import IngestRouter, make_server
from app.settings import ServerSettings
from app.uvicorn_seams import Server
from ingest.metrics import Metrics
from storage.engine import open_database
from storage.migrate import migrate
from tests.support.api import World as ApiWorld
from tests.support.api import an_event
from tests.support.stored import rows
from tests.support.webhook_rig import MAX_BODY, WebhookRig, webhook_rig

PATIENCE = 0.2
SOON = 20.0  # within which all that is cut off must be, also on a busy machine
PROGRESS = 64  # bytes that keep a body going for so long
HEAD = b"POST /ingest/fleet HTTP/1.1\r\nHost: x\r\n"
EVENT = b'{"event":"temp","published_at":"2026-07-28T16:53:05.616Z"}'
WHOLE = HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(EVENT), EVENT)
NAMES = "SELECT name FROM events ORDER BY position"


@dataclass
class World:
    """A listening server in this process."""

    rig: WebhookRig
    server: Server
    port: int

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield reader, writer
        finally:
            writer.close()

    async def no_connections(self) -> None:
        """Return when the server holds none any more."""
        async with asyncio.timeout(SOON):
            while self.server.server_state.connections or self.server.server_state.tasks:  # noqa: ASYNC110 - uvicorn's
                await asyncio.sleep(0.01)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A server that is patient for `PATIENCE` seconds."""
    bounds = Bounds(head_seconds=PATIENCE, progress_seconds=PATIENCE, progress_bytes=PROGRESS, idle_seconds=2)
    async with _serving(tmp_path, bounds) as world:
        yield world


@pytest.fixture
async def patient_world(tmp_path: Path) -> AsyncIterator[World]:
    """A server that is as patient as the one that users have."""
    async with _serving(tmp_path, Bounds()) as world:
        yield world


@asynccontextmanager
async def _serving(folder: Path, bounds: Bounds) -> AsyncIterator[World]:
    listening = socket.create_server(("127.0.0.1", 0))
    async with webhook_rig(folder) as rig:
        server = make_server(IngestRouter({"/ingest/fleet": rig.source}, _nobody), ServerSettings(), bounds)
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        yield World(rig, server, listening.getsockname()[1])
        server.should_exit = True
        await serving


async def _nobody(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body"})


async def answer_of(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Status and body of the next answer."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]
    return int(head[9:12]), await reader.readexactly(int(length or 0))


async def closed(reader: asyncio.StreamReader) -> bytes:
    """What comes until the server closes."""
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"P",
        HEAD,
        HEAD + b"X-Long: ",
        HEAD + b"Content-Length: 100\r\n\r\n",
        HEAD + b"Content-Length: 100\r\n\r\n" + EVENT[:20],
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n",
        HEAD + b"Content-Length: 100\r\nExpect: 100-continue\r\n\r\n",
        WHOLE + b"POST /ing",
        WHOLE + HEAD + b"Content-Length: 100\r\n\r\n" + EVENT[:20],
    ],
    ids=[
        *("nothing", "a letter", "half a head", "half a header", "no body", "half a body", "no chunk"),
        *("half the chunks", "promised", "half a second head", "half a second body"),
    ],
)
async def test_a_request_that_stops_is_closed(world: World, sent: bytes) -> None:
    """However far it came, a request that does not go on is cut off after a time, and only whole ones are stored."""
    async with world.connected() as (reader, writer):
        writer.write(sent)
        started = time.monotonic()
        async with asyncio.timeout(SOON):
            await closed(reader)
        assert time.monotonic() - started > 0.9 * PATIENCE
    await world.no_connections()
    assert len(await rows(world.rig.database, NAMES)) == sent.count(EVENT)
    assert world.rig.value("events_received_total", mode="webhook") == sent.count(EVENT)


@pytest.mark.parametrize(
    ("start", "drop"),
    [
        (HEAD, b"X-A: b\r\n"),
        (HEAD + b"Content-Length: 100000\r\n\r\n", b"x"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    ],
    ids=["header by header", "byte by byte", "chunk by chunk"],
)
async def test_a_request_that_drips_is_closed(world: World, start: bytes, drop: bytes) -> None:
    """A byte now and then keeps nothing open: it is the whole request that has its time."""
    async with world.connected() as (reader, writer):
        writer.write(start)
        ended = asyncio.create_task(closed(reader))
        async with asyncio.timeout(SOON):
            while not ended.done():
                writer.write(drop)
                await asyncio.wait([ended], timeout=PATIENCE / 10)
    await world.no_connections()
    assert await rows(world.rig.database, NAMES) == []


async def test_a_body_that_is_cut_off_is_nothing(world: World) -> None:
    """A sender that dies in the middle leaves nothing, whether it says goodbye or not."""
    for abort in (False, True):
        async with world.connected() as (_, writer):
            writer.write(WHOLE[:-10])
            await writer.drain()
            if abort:
                writer.transport.abort()
            else:
                writer.write_eof()
    await world.no_connections()
    assert await rows(world.rig.database, NAMES) == []
    assert world.rig.value("events_received_total", mode="webhook") == 0


async def test_an_idle_connection_between_requests_stays(world: World) -> None:
    """Keep-alive is not slowness: a connection that rests longer than the patience still works."""
    async with world.connected() as (reader, writer):
        for _ in range(3):
            writer.write(WHOLE)
            assert await answer_of(reader) == (204, b"")
            await asyncio.sleep(3 * PATIENCE)
    assert len(await rows(world.rig.database, NAMES)) == 1


async def test_a_slow_commit_is_not_a_slow_sender(world: World) -> None:
    """Who has sent everything may wait for the answer however long the store takes."""
    world.rig.database.close_gate()
    async with world.connected() as (reader, writer):
        writer.write(WHOLE)
        waiting = asyncio.create_task(answer_of(reader))
        done, _ = await asyncio.wait([waiting], timeout=5 * PATIENCE)
        assert not done
        world.rig.database.open_gate()
        assert await waiting == (204, b"")


async def test_slow_senders_hold_nobody_up(patient_world: World) -> None:
    """Two hundred unfinished requests take no worker: the next whole one is answered while they wait."""
    slow = [await asyncio.open_connection("127.0.0.1", patient_world.port) for _ in range(200)]
    for _, writer in slow:
        writer.write(WHOLE[:-1])
    async with patient_world.connected() as (reader, writer), asyncio.timeout(SOON):
        writer.write(WHOLE)
        assert await answer_of(reader) == (204, b"")
    assert len(patient_world.server.server_state.connections) >= len(slow)
    for _, writer in slow:
        writer.close()
    await patient_world.no_connections()


def chunked(body: bytes, size: int) -> bytes:
    """A body in chunks (RFC 9112 §7.1)."""
    pieces = (body[start : start + size] for start in range(0, len(body), size))
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


@pytest.mark.parametrize("size", [1, 7, 10**6])
async def test_chunked_bodies_are_whole_bodies(patient_world: World, size: int) -> None:
    """Without a Content-Length the body is what the chunks hold."""
    async with patient_world.connected() as (reader, writer):
        writer.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(EVENT, size))
        assert await answer_of(reader) == (204, b"")
    assert await rows(patient_world.rig.database, NAMES) == [("temp",)]


@pytest.mark.parametrize("size", [1000, 10**6])
async def test_the_length_is_counted_and_not_believed(patient_world: World, size: int) -> None:
    """A chunked body over `max_body` is 413, without any Content-Length, and the connection ends."""
    async with patient_world.connected() as (reader, writer):
        writer.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(b" " * (MAX_BODY + 1), size))
        code, body = await answer_of(reader)
        assert (code, json.loads(body)["status"]) == (413, 413)
        assert await closed(reader) == b""
    await patient_world.no_connections()


async def test_a_huge_promise_is_not_waited_for(world: World) -> None:
    """A Content-Length of a terabyte reserves nothing and ends like any unfinished body."""
    async with world.connected() as (reader, writer):
        writer.write(HEAD + b"Content-Length: 1000000000000\r\n\r\nx")
        async with asyncio.timeout(SOON):
            assert await closed(reader) == b""
    await world.no_connections()


@pytest.mark.parametrize(
    "request_",
    [
        HEAD + b"Content-Length: 5\r\n\r\n" + EVENT,  # what follows is no request
        HEAD + b"Content-Length: 58\r\nContent-Length: 5\r\n\r\n" + EVENT,
        HEAD + b"Content-Length: 58\r\nTransfer-Encoding: chunked\r\n\r\n" + EVENT,
        HEAD + b"Content-Length: -1\r\n\r\n" + EVENT,
        HEAD + b"Content-Length: five\r\n\r\n" + EVENT,
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + EVENT,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x00" * 100,
        b"GET\r\n\r\n",
        b"POST /ingest/fleet HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
    ids=["short", "two", "both", "negative", "words", "no chunk", "tls", "zeros", "words only", "version", "http/2"],
)
async def test_what_is_no_request_is_closed(world: World, request_: bytes) -> None:
    """Whatever is not HTTP ends the connection, with 400 where an answer is possible, and never with a 500."""
    async with world.connected() as (reader, writer):
        writer.write(request_)
        async with asyncio.timeout(SOON):
            answered = await closed(reader)
    assert b"HTTP/1.1 5" not in answered
    await world.no_connections()
    assert await rows(world.rig.database, NAMES) == []


@pytest.mark.parametrize(
    ("start", "more"),
    [
        (HEAD, b"X-A: b\r\n"),
        (HEAD + b"X-A: ", b"b"),
        (b"POST /", b"a"),
        (WHOLE + HEAD, b"X-A: b\r\n"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n", b"X-A: b\r\n"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;", b"a"),
    ],
    ids=["headers", "a header", "a path", "a second head", "trailers", "an extension"],
)
async def test_a_head_without_end_is_refused(world: World, start: bytes, more: bytes) -> None:
    """What is no body and never ends is cut off after some kilobytes, and not when its time is over."""
    async with world.connected() as (reader, writer):
        writer.write(start)
        await writer.drain()
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < 30_000_000 and not reader.at_eof():
                writer.write(more * 20_000)
                await writer.drain()
                sent += 20_000 * len(more)
        assert sent < 10_000_000
    await world.no_connections()


async def test_a_large_body_is_no_head(patient_world: World) -> None:
    """Requests of any size in any pieces are not taken for a head without end."""
    async with patient_world.connected() as (reader, writer):
        for _ in range(5):
            body = EVENT + b" " * (MAX_BODY - len(EVENT))
            writer.write(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            assert await answer_of(reader) == (204, b"")
            writer.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(body, 100))
            assert await answer_of(reader) == (204, b"")


REFUSED = HEAD.replace(b"POST", b"GET") + b"\r\n"


@pytest.mark.parametrize(("request_", "code", "count"), [(WHOLE, 204, 500), (REFUSED, 405, 3000)])
async def test_a_long_pipeline_is_answered_whole(patient_world: World, request_: bytes, code: int, count: int) -> None:
    """However many requests are sent ahead of their answers, each gets its own; reading waits meanwhile."""
    async with patient_world.connected() as (reader, writer):
        writer.write(request_ * count)
        for _ in range(count):
            assert (await answer_of(reader))[0] == code
    await patient_world.no_connections()


async def test_a_deaf_sender_is_cut_off(world: World) -> None:
    """Neither requests nor answers pile up for a sender that pipelines without end and reads nothing."""
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(("127.0.0.1", world.port))
        deaf.setblocking(False)
        loop = asyncio.get_running_loop()
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < 1_000_000:
                await loop.sock_sendall(deaf, REFUSED * 1000)
                sent += 1000
        assert sent < 1_000_000
    await world.no_connections()


async def test_a_reader_of_the_api_that_takes_nothing_is_cut_off(tmp_path: Path) -> None:
    """An answer of the API that makes no progress ends, and what was kept for it is let go of."""
    database = open_database(f"sqlite:///{tmp_path}/test.db")
    await migrate(database)
    api = ApiWorld(database, Metrics(CollectorRegistry()))
    await api.commit(*(an_event(number, data=b"x" * (1 << 20)) for number in range(7)))
    listening = socket.create_server(("127.0.0.1", 0))
    server = make_server(api.api(), ServerSettings(), Bounds(progress_seconds=PATIENCE))
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    with socket.socket() as deaf, socket.socket() as slow:
        for client in (deaf, slow):
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(listening.getsockname())
            client.sendall(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        slow.setblocking(False)
        taken = b""
        while len(taken) < 7 << 20:  # however long it takes
            taken += await asyncio.get_running_loop().sock_recv(slow, 1 << 20)
        assert taken.startswith(b"HTTP/1.1 200")
        async with asyncio.timeout(SOON):
            while len(server.server_state.connections) > 1:  # noqa: ASYNC110 - uvicorn's
                await asyncio.sleep(0.01)
    server.should_exit = True
    await serving
    await database.close()


async def test_a_head_request_is_answered_without_a_body(patient_world: World) -> None:
    """405 to HEAD is a head only (RFC 9110 §9.3.2): the next answer on the connection is the next answer."""
    async with patient_world.connected() as (reader, writer):
        writer.write(b"HEAD /ingest/fleet HTTP/1.1\r\nHost: x\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 405")
        writer.write(WHOLE)
        assert await answer_of(reader) == (204, b"")
