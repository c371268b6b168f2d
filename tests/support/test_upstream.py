"""The test upstream does what it says, seen by a client that knows nothing but bytes."""

from __future__ import annotations

import asyncio
import json
import zlib
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.numbered import Numbered
from tests.support.raw_client import RawClient, listening, numbers_in
from tests.support.tls import client_context, make_certificate, server_context
from tests.support.upstream.journal import (
    Closed,
    Deaf,
    Follower,
    Hears,
    Journal,
    Listening,
    Opened,
    Sent,
    kinds,
)
from tests.support.upstream.rules import Fault, Rules
from tests.support.upstream.server import Upstream

QUICK = Rules(keep_alive_seconds=0.02)
SILENT = Rules(keep_alive=None)
SILENCE_SECONDS = 0.1


async def test_events_arrive_as_particle_writes_them() -> None:
    """The greeting, the name on its own line, the rest as JSON in one line, and nothing else."""
    async with Upstream(SILENT) as upstream, listening(upstream.url) as client:
        assert client.status == 200
        assert "Content-Type: text/event-stream\r\n" in client.head
        assert await client.read_until(b"\n\n\n") == b":ok\n\n\n"
        await upstream.publish(7)
        frame = await client.read_until(b"\n\n")
        assert frame == b"event: temperature\ndata: " + upstream.events.streamed(7) + b"\n\n"
        assert json.loads(upstream.events.body(7)) == {
            "event": "temperature",
            **json.loads(upstream.events.streamed(7)),
        }
        assert client.body == b""


@pytest.mark.parametrize(("kind", "sign"), [("newline", b"\n"), ("comment", b":ok\n")])
async def test_keep_alives(kind: str, sign: bytes) -> None:
    """Signs of life come at their interval: bare newlines, or comments."""
    rules = Rules(keep_alive=kind, keep_alive_seconds=0.05)  # type: ignore[arg-type]
    async with Upstream(rules) as upstream, listening(upstream.url) as client:
        await client.read_until(b"\n\n\n")
        began = asyncio.get_running_loop().time()
        assert [await client.read_until(sign) for _ in range(4)] == [sign] * 4
        assert asyncio.get_running_loop().time() - began == pytest.approx(0.2, abs=0.1)


@pytest.mark.parametrize("newline", ["\n", "\r", "\r\n"])
async def test_line_ends_and_a_bom(newline: str) -> None:
    """Every line of a stream ends as the rules say, behind a byte order mark."""
    rules = Rules(keep_alive=None, newline=newline, bom=True, retry_ms=1500, ids=True)  # type: ignore[arg-type]
    end = newline.encode()
    async with Upstream(rules) as upstream, listening(upstream.url) as client:
        await upstream.publish(3)
        seen = await client.read_until(b"id: 3" + 2 * end)
        assert seen.startswith(b"\xef\xbb\xbf:ok" + 3 * end + b"retry: 1500" + 2 * end + b"event: temperature" + end)
        assert (b"\n" in seen, b"\r" in seen) == ("\n" in newline, "\r" in newline)


async def test_every_byte_can_be_a_chunk_of_its_own() -> None:
    """Split streams have a chunk, and a write, for each byte."""
    async with Upstream(Rules(split=True, keep_alive=None)) as upstream, listening(upstream.url) as client:
        await upstream.publish(1)
        assert numbers_in(await client.read_until(b"}\n\n")) == [1]
        assert {len(chunk) for chunk in client.chunks} == {1}


async def test_a_body_without_chunks() -> None:
    """A close-delimited body ends with the connection, in good order."""
    async with Upstream(Rules(chunked=False, keep_alive=None)) as upstream, listening(upstream.url) as client:
        assert "Transfer-Encoding" not in client.head
        await upstream.publish(1, 2)
        await upstream.fault(Fault(kind="finish"))
        assert numbers_in(await client.read_to_end()) == [1, 2]


async def test_a_gzip_stream() -> None:
    """What goes out is flushed for each event, so that it can be read at once."""
    async with Upstream(Rules(gzip=True, keep_alive=None)) as upstream, listening(upstream.url) as client:
        assert "Content-Encoding: gzip\r\n" in client.head
        await upstream.publish(5)
        inflating, seen = zlib.decompressobj(wbits=31), b""
        while not seen.endswith(b"}\n\n"):
            seen += inflating.decompress(await client._more())
        assert numbers_in(seen) == [5]


async def test_strange_events() -> None:
    """Any name, none, an empty one, U+2028 in data, several data lines, and any bytes at all."""
    async with Upstream(SILENT) as upstream, listening(upstream.url) as client:
        await client.read_until(b"\n\n\n")
        for name, data, seen in (
            ("error", "{}", b"event: error\ndata: {}\n\n"),
            ("", "{}", b"event: \ndata: {}\n\n"),
            (None, "{}", b"data: {}\n\n"),
            ("a", "x\u2028y\nz", b"event: a\ndata: x\xe2\x80\xa8y\ndata: z\n\n"),
        ):
            await upstream.emit(name, data)
            assert await client.read_until(b"\n\n") == seen
        await upstream.raw(b"\x00\xff\n\n")
        assert await client.read_until(b"\n\n") == b"\x00\xff\n\n"


async def test_a_line_of_five_mebibytes() -> None:
    """It goes out whole, however small the buffers: what is sent on purpose is not dropped."""
    size = 5 << 20
    async with Upstream(Rules(keep_alive=None, send_buffer=4096)) as upstream, listening(upstream.url) as client:
        sending = asyncio.create_task(upstream.raw(b"data: " + b"x" * size + b"\n\n"))
        await client.read_until(b"\n\n\n")
        assert len(await client.read_until(b"\n\n")) == size + 8
        await sending


async def test_data_as_an_object() -> None:
    """The same event with its data as an object."""
    async with Upstream(Rules(as_object=True, keep_alive=None)) as upstream, listening(upstream.url) as client:
        await client.read_until(b"\n\n\n")
        await upstream.publish(4)
        data = (await client.read_until(b"\n\n")).split(b"data: ")[1]
        assert json.loads(data)["data"] == json.loads(json.loads(upstream.events.streamed(4))["data"])


async def test_tls(tmp_path: Path) -> None:
    """With a context it speaks TLS, and can be reset like any other."""
    certificate, key = make_certificate(tmp_path)
    async with Upstream(SILENT, tls=server_context(certificate, key)) as upstream:
        assert upstream.url.startswith("https://")
        client = await RawClient.connect(upstream.url, client_context(certificate))
        await client.get(upstream.url)
        await upstream.publish(2)
        assert numbers_in(await client.read_until(b"}\n\n")) == [2]
        await upstream.fault(Fault(kind="reset"))
        with pytest.raises((ConnectionResetError, EOFError)):
            await client.read_until(b"never")


async def test_the_journal_tells_a_connections_life(tmp_path: Path) -> None:
    """Request, hearing, events, end, each with its time; the file says the same as soon as it happened."""
    path = tmp_path / "journal"
    with closing(Journal(path)) as journal:
        async with Upstream(SILENT, journal=journal) as upstream:
            await see_a_life(upstream, Follower(path))


async def see_a_life(upstream: Upstream, follower: Follower) -> None:
    """One connection, from its request to its end."""
    async with listening(upstream.url, {"X-Mine": "1"}) as client:
        await upstream.publish(1)
        assert follower.read() == upstream.journal.entries
        await client.read_until(b"}\n\n")
    await upstream.wait_for(lambda: kinds(upstream.journal.entries)[-1] is Closed)
    assert kinds(list(follower.read())) == [Deaf, Closed]
    assert kinds(upstream.journal.entries) == [Listening, Opened, Hears, Sent, Deaf, Closed]
    opened = upstream.journal.entries[1]
    assert isinstance(opened, Opened)
    assert opened.head.startswith("GET /v1/products/tracker/events HTTP/1.1\r\n")
    assert "X-Mine: 1\r\n" in opened.head
    times = [entry.at for entry in upstream.journal.entries]
    assert times == sorted(times)


def test_numbered_events_are_one_event_either_way() -> None:
    """The stream's JSON has what the webhook's body has, but the name."""
    events = Numbered("r", datetime(2026, 1, 1, tzinfo=UTC))
    for as_object in (False, True):
        body = json.loads(events.body(12, as_object=as_object))
        assert body.pop("event") == "temperature"
        assert json.loads(events.streamed(12, as_object=as_object)) == body
