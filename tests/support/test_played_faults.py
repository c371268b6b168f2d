"""What goes wrong at the test upstream goes wrong as it says, seen by a client that knows nothing but bytes."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import get_args

import pytest

from tests.support.raw_client import RawClient, listening, numbers_in
from tests.support.upstream.journal import (
    Answered,
    Closed,
    Deaf,
    Listening,
    Sent,
    kinds,
)
from tests.support.upstream.rules import Answer, Fault, Nonsense, Rules
from tests.support.upstream.server import Upstream

QUICK = Rules(keep_alive_seconds=0.02)
SILENT = Rules(keep_alive=None)
SILENCE_SECONDS = 0.1


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


async def test_faults_hit_the_streams_that_were_chosen() -> None:
    """The oldest, the newest, or those with these numbers; the others go on."""
    async with Upstream(SILENT) as upstream, AsyncExitStack() as stack:
        for _ in range(4):
            await stack.enter_async_context(listening(upstream.url))
        for streams, left in (("oldest", [2, 3, 4]), ("newest", [2, 3]), ((1, 3), [2]), ("all", [])):
            await upstream.fault(Fault(kind="stall", streams=streams))  # type: ignore[arg-type]
            assert upstream.streams == left


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


@pytest.mark.parametrize("kind", get_args(Nonsense))
async def test_answers_that_are_nonsense(kind: Nonsense) -> None:
    """Each is given once and its connection closed, then streams are given again."""
    async with Upstream(SILENT) as upstream:
        await upstream.fault(Fault(kind=kind))
        async with listening(upstream.url) as client:
            assert "text/event-stream" not in client.head
            await client.read_to_end()
        async with listening(upstream.url) as client:
            assert "text/event-stream" in client.head


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
