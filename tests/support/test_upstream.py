"""The test upstream does what it says, seen by a client that knows nothing but bytes."""

from __future__ import annotations

import asyncio
import json
import socket
import time
import zlib
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import pytest

from tests.support.numbered import Numbered, number_of
from tests.support.raw_client import RawClient, listening
from tests.support.tls import client_context, make_certificate, server_context
from tests.support.upstream.journal import (
    Answered,
    Closed,
    Deaf,
    Entry,
    Follower,
    Hears,
    Journal,
    Listening,
    Opened,
    Sent,
)
from tests.support.upstream.rules import Answer, Fault, Rules
from tests.support.upstream.running import RunningUpstream, upstream_plan
from tests.support.upstream.server import Upstream

QUICK = Rules(keep_alive_seconds=0.02)
SILENT = Rules(keep_alive=None)
SILENCE_SECONDS = 0.1


def numbers_in(stream: bytes) -> list[int]:
    """The numbers of the events in a stream's bytes."""
    data = [json.loads(line.removeprefix(b"data: "))["data"] for line in stream.splitlines() if line[:5] == b"data:"]
    return [found[1] for text in data if (found := number_of(text.encode()))]


def kinds(entries: list[Entry]) -> list[type[Entry]]:
    """What happened, in order."""
    return [type(entry) for entry in entries]


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


async def test_a_stalled_stream_stays_open_and_misses_everything() -> None:
    """Not a byte more, no end either; the other stream goes on."""
    async with Upstream(QUICK) as upstream, listening(upstream.url) as first, listening(upstream.url) as second:
        await upstream.publish(1)
        await upstream.fault(Fault(kind="stall", streams="oldest"))
        await upstream.publish(2)
        assert numbers_in(await first.read_until(b"}\n\n")) == [1]
        while b"\n" in first.body or not await first.is_silent(SILENCE_SECONDS):
            first.body = b""  # keep-alives that were under way
        assert numbers_in(await second.read_until(b"}\n\n") + await second.read_until(b"}\n\n")) == [1, 2]
        sent = [entry for entry in upstream.journal.entries if isinstance(entry, Sent)]
        assert [(list(entry.handed), list(entry.dropped)) for entry in sent] == [([1, 2], []), ([2], [1])]
        assert upstream.streams == [2]


async def test_the_end_in_good_order_and_half_closed() -> None:
    """`finish` sends the last chunk; `half_close` does not, and goes on listening to the client."""
    async with Upstream(SILENT) as upstream:
        for kind, ends in (("finish", True), ("half_close", False)):
            async with listening(upstream.url) as client:
                await upstream.fault(Fault(kind=kind))  # type: ignore[arg-type]
                assert (await client.read_to_end()).endswith(b"\r\n0\r\n\r\n") is ends
                if kind == "half_close":
                    assert [e.connection for e in upstream.journal.entries if isinstance(e, Closed)] == [1]
            await upstream.wait_for(lambda: kinds(upstream.journal.entries)[-1] is Closed)


async def test_a_reset_is_an_rst() -> None:
    """The client's read fails."""
    async with Upstream(SILENT) as upstream, listening(upstream.url) as client:
        await client.read_until(b"\n\n\n")
        await upstream.fault(Fault(kind="reset"))
        with pytest.raises(ConnectionResetError):
            await client.read_to_end()


async def test_a_cut_ends_within_a_frame() -> None:
    """Half of the next event is the last that is seen, and that event counts as dropped."""
    async with Upstream(Rules(chunked=False, keep_alive=None)) as upstream, listening(upstream.url) as client:
        await upstream.fault(Fault(kind="cut"))
        await upstream.publish(8)
        seen = await client.read_to_end()
        assert b"event: temperature\ndata: {" in seen
        assert not seen.endswith(b"\n")
        sent = [entry for entry in upstream.journal.entries if isinstance(entry, Sent)]
        assert (sent[0].handed, sent[0].dropped) == ([], [1])


@pytest.mark.parametrize("kind", get_args(Answer))
async def test_answers_that_are_no_stream(kind: Answer) -> None:
    """Each is given as often as was said, then streams are given again."""
    async with Upstream(SILENT) as upstream, listening(upstream.url) as before:
        await upstream.fault(Fault(kind=kind, times=2, retry_after="7"))
        with pytest.raises((ConnectionResetError, EOFError)):
            await before.read_until(b"never")
        for _ in range(2):
            async with listening(upstream.url) as client:
                assert client.status == {"html": 200, "redirect": 302}.get(kind) or int(kind)
                assert ("Retry-After: 7\r\n" in client.head) is kind.isdigit()
                assert ("text/html" in client.head) is (kind == "html")
                assert ("Location: /elsewhere" in client.head) is (kind == "redirect")
                await client.read_to_end()
        async with listening(upstream.url) as client:
            assert "text/event-stream" in client.head
        answered = [entry.kind for entry in upstream.journal.entries if isinstance(entry, Answered)]
        assert answered == [kind, kind]


async def test_answers_for_a_time() -> None:
    """With seconds an obstacle stands so long, however often it is met."""
    async with Upstream(SILENT) as upstream:
        await upstream.fault(Fault(kind="500", seconds=0.2))
        began = asyncio.get_running_loop().time()
        statuses: list[int] = []
        while statuses[-1:] != [200]:
            async with listening(upstream.url) as client:
                statuses.append(client.status)
        assert asyncio.get_running_loop().time() - began >= 0.2
        assert set(statuses[:-1]) == {500}


async def test_a_token_is_required() -> None:
    """The right bearer, and no other."""
    async with Upstream(Rules(token="s3cret")) as upstream:
        for headers, status in (
            ({}, 401),
            ({"Authorization": "Bearer x"}, 401),
            ({"Authorization": "Bearer s3cret"}, 200),
        ):
            async with listening(upstream.url, headers) as client:
                assert client.status == status


async def test_it_can_accept_and_never_answer() -> None:
    """The connection is taken, and not a byte comes."""
    async with Upstream(SILENT) as upstream:
        await upstream.fault(Fault(kind="never_answer"))
        client = await RawClient.connect(upstream.url)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.get(upstream.url), SILENCE_SECONDS)
        client.close()
        async with listening(upstream.url) as client:
            assert client.status == 200


async def test_it_can_refuse_for_a_time() -> None:
    """Nobody listens on the port meanwhile, and streams are reset; then it takes connections on the same port."""
    async with Upstream(SILENT) as upstream, listening(upstream.url) as before:
        await upstream.fault(Fault(kind="refuse", seconds=0.2))
        with pytest.raises(ConnectionRefusedError):
            await RawClient.connect(upstream.url)
        with pytest.raises((ConnectionResetError, EOFError)):
            await before.read_until(b"never")
        listens = [True, False, True]
        await upstream.wait_for(
            lambda: [entry.listens for entry in upstream.journal.entries if isinstance(entry, Listening)] == listens
        )
        async with listening(upstream.url) as client:
            assert client.status == 200


async def test_the_last_ten_come_again() -> None:
    """On each connection, and only what is behind Last-Event-ID where that is given."""
    async with Upstream(Rules(resend=10, ids=True, keep_alive=None)) as upstream:
        await upstream.publish(*range(15))
        for headers, expected in (({}, range(5, 15)), ({"Last-Event-ID": "12"}, range(13, 15))):
            async with listening(upstream.url, headers) as client:
                assert numbers_in(await client.read_until(b"id: 14\n\n")) == list(expected)
        again = [entry.number for entry in upstream.journal.entries if isinstance(entry, Sent) and entry.again]
        assert again == [*range(5, 15), 13, 14]


async def test_a_fault_can_bring_the_last_ten_again_once() -> None:
    """Only the next stream begins with them."""
    async with Upstream(SILENT) as upstream:
        await upstream.publish(*range(15))
        await upstream.fault(Fault(kind="reset", resend=10))
        for expected in (10, 0):
            async with listening(upstream.url) as client:
                await upstream.publish(99)
                seen = await client.read_until(rb"\"n\":\"0000000099\"")
                assert seen.count(b"event: temperature") == expected + 1


async def test_a_slow_reader_loses_events() -> None:
    """Beyond the backlog events are dropped whole, and heard again once there is room; the journal knows which."""
    rules = Rules(keep_alive=None, send_buffer=4096, backlog=8192, chunked=False)
    async with Upstream(rules) as upstream:
        client = await RawClient.connect(upstream.url, limit=4096)
        await client.get(upstream.url)
        count = 0
        while len(upstream.streams) == 1 or count == 0:
            await upstream.publish(count)
            count += 1
        lost = range(count, count + 10)
        await upstream.publish(*lost)
        assert upstream.streams == []
        await client.read_until(f"{upstream.events.streamed(count - 2).decode()}\n\n".encode())
        await upstream.wait_for(lambda: True)
        last = count + 10
        while not upstream.streams:
            await upstream.publish(last)
            last += 1
            await asyncio.sleep(0)
        handed = {entry.number for entry in upstream.journal.entries if isinstance(entry, Sent) and entry.handed}
        assert handed.isdisjoint({count - 1, *lost})
        assert last - 1 in handed
        deaf = [entry.why for entry in upstream.journal.entries if isinstance(entry, Deaf)]
        assert deaf == ["dropped"]
        client.close()


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


def test_a_process_publishes_and_obeys(tmp_path: Path) -> None:
    """It publishes at its pace, strikes faults when told, and its journal can be followed from here."""
    plan = upstream_plan("p", tmp_path, pause_seconds=(0.001, 0.002), rules={"keep_alive": None})
    with RunningUpstream(plan) as upstream:

        async def listen() -> None:
            async with listening(upstream.url) as client:
                await client.read_until(b"}\n\n")
                upstream.wait_for(lambda: upstream.hearing() == 1, 5, "not heard")
                upstream.fault(Fault(kind="finish"))
                assert (await client.read_to_end()).endswith(b"0\r\n\r\n")

        asyncio.run(listen())
        upstream.wait_for(lambda: upstream.hearing() == 0 and upstream.newest > 50, 5, "no end, or no events")
        upstream.pace(None)
        assert [entry.number for entry in upstream.stop() if isinstance(entry, Sent)] == list(
            range(upstream.newest + 1)
        )


def test_a_process_follows_its_schedule(tmp_path: Path) -> None:
    """The plan's faults come by themselves, each in its time."""
    schedule = [{"after": 0.1, "fault": {"type": "fault", "kind": "refuse", "seconds": 0.1}}]
    plan = upstream_plan("p", tmp_path, mode="quiet", schedule=schedule)
    with RunningUpstream(plan) as upstream:
        upstream.wait_for(lambda: kinds(upstream.entries).count(Listening) == 3, 5, "no fault, or no return")
        at = {entry.listens: entry.at for entry in upstream.entries[1:] if isinstance(entry, Listening)}
        assert at[True] - at[False] == pytest.approx(0.1, abs=0.08)


def test_a_flood_is_no_bottleneck(tmp_path: Path) -> None:
    """Every event once, in order, at over 150,000 a second."""
    count = 200_000
    plan = upstream_plan("f", tmp_path, mode="flood", count=count, rules={"chunked": False, "keep_alive": None})
    events = Numbered("f", plan.started)
    frames = b"".join(b"event: temperature\ndata: %b\n\n" % events.streamed(number) for number in range(count))
    with RunningUpstream(plan), socket.create_connection(("127.0.0.1", plan.port)) as client:
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        pieces: list[bytes] = []
        began = time.perf_counter()
        while sum(map(len, pieces)) < len(frames):
            pieces.append(client.recv(1 << 20))
        rate = count / (time.perf_counter() - began)
        _, _, body = b"".join(pieces).partition(b":ok\n\n\n")
        while len(body) < len(frames):
            body += client.recv(1 << 20)
    assert body == frames
    assert rate > 150_000


def test_numbered_events_are_one_event_either_way() -> None:
    """The stream's JSON has what the webhook's body has, but the name."""
    events = Numbered("r", datetime(2026, 1, 1, tzinfo=UTC))
    for as_object in (False, True):
        body = json.loads(events.body(12, as_object=as_object))
        assert body.pop("event") == "temperature"
        assert json.loads(events.streamed(12, as_object=as_object)) == body
