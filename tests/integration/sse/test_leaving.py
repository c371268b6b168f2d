"""Leaving an SSE stream: upstream does, a new connection takes over, or we stop; and what is proven by then."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from ingest.event import Cause
from ingest.reconnect import ReconnectRules
from tests.support.sse_rig import SseRig, Token, hasty, sse_rig
from tests.support.sse_upstream import CHUNKED, PLAIN, Request, SseUpstream, an_answer, frame


async def test_a_stream_without_a_word_is_dead(upstream: SseUpstream) -> None:
    """After the idle timeout without a byte, and not before: bare newlines keep it alive."""
    loop = asyncio.get_running_loop()
    async with sse_rig(hasty(upstream.url, idle=0.3)) as rig:
        channel = await upstream.channel()
        began = silent_since = loop.time()
        while silent_since < began + 0.6:
            silent_since = loop.time()
            await channel.say(b"\n")
            await asyncio.sleep(0.01)
        assert rig.stream.lost is None
        await rig.until_lost(Cause.IDLE, seconds=3.0)
        assert loop.time() - silent_since >= 0.3
        assert rig.stream.reason == "nothing came for 0.3 s"
        await upstream.channel(2)
        await rig.until(lambda: rig.coverage.causes == [Cause.IDLE, None])
        first, second = rig.coverage.intervals
        assert first.until < second.since - 0.25


async def test_an_end_in_good_order(upstream: SseUpstream, rig: SseRig) -> None:
    """All that was sent is stored, the interval ends with what a byte proved, and the stream is opened again."""
    channel = await upstream.channel()
    await rig.until_up()
    await channel.event("temp", 1)
    await rig.until_proven(channel.say, lambda: rig.has_proven)
    await channel.finish()
    await upstream.channel(2)
    await rig.until(lambda: rig.coverage.causes == [Cause.CLOSED, None])
    assert rig.numbers == [1]
    assert rig.stream.lost is Cause.CLOSED
    assert rig.coverage.intervals[0].until > rig.coverage.intervals[0].since


@pytest.mark.parametrize("head", [CHUNKED, PLAIN])
async def test_a_half_closed_connection_is_closed(upstream: SseUpstream, head: bytes) -> None:
    """What was sent before is stored, and a frame that was cut off is not."""
    upstream.head = head
    async with sse_rig(hasty(upstream.url)) as rig:
        channel = await upstream.channel()
        await channel.event("temp", 1)
        await channel.say(b"event: cut\ndata: {")
        channel.half_close()
        await upstream.channel(2)
        await rig.until(lambda: rig.coverage.causes == [Cause.CLOSED, None])
        assert rig.names == ["temp"]


async def test_a_reset_proves_nothing(upstream: SseUpstream, rig: SseRig) -> None:
    """The interval ends where a byte proved it last, long before the reset."""
    channel = await upstream.channel()
    await rig.until_up()
    await channel.event("temp", 1)
    await rig.until_proven(channel.say, lambda: rig.has_proven)
    silent_since = rig.clock()
    rig.clock.ahead += 1.0
    await rig.until_read(rig.clock)
    channel.reset()
    await rig.until(lambda: rig.coverage.causes[0] is Cause.ERROR)
    assert rig.stream.reason == "the connection was reset"
    assert rig.coverage.intervals[0].until <= silent_since


async def test_ids_and_waits_of_the_stream_are_honoured(upstream: SseUpstream, rig: SseRig) -> None:
    """`retry:` is the least wait also behind a 503; the last id is sent in UTF-8, also after connections without."""
    await (await upstream.channel()).say("retry: 150\nid: Ä\U0001f321\n".encode() + frame("temp"))
    await rig.until(lambda: rig.names)
    upstream.answers.append(an_answer("503 Busy"))
    ended = asyncio.get_running_loop().time()
    await upstream.channels[0].finish()
    await (await upstream.channel(2)).finish()
    await upstream.channel(3)
    asked = [ended, *(request.at for request in upstream.requests[1:])]
    assert all(later - earlier >= 0.145 for earlier, later in pairwise(asked))
    assert [_id_sent(request) for request in upstream.requests] == [None, *["Ä\U0001f321"] * 3]


def _id_sent(request: Request) -> str | None:
    sent = request.headers.get("last-event-id")
    return None if sent is None else sent.encode("latin-1").decode()


async def test_an_upstream_of_one_byte_a_minute_is_waited_for(upstream: SseUpstream) -> None:
    """After two connections in a row that said nothing but their greeting the wait is longer; that is logged once."""
    rules = hasty(upstream.url, idle=0.2)
    rules = replace(rules, stream=replace(rules.stream, patient=30.0))
    with capture_logs() as logged:
        async with sse_rig(rules) as rig:
            heard = await upstream.channel(1)
            for _ in range(4):  # it is heard until long after its greeting
                await asyncio.sleep(0.05)
                await heard.say(b"\n")
            for number in (2, 3, 4):
                await (await upstream.channel(number)).say(b":ok\n\n")
            await asyncio.sleep(0.6)
            await upstream.channels[3].event("temp", 1)
            await rig.until(lambda: rig.numbers == [1])
            assert len(upstream.requests) == 4
    assert [line["seconds"] for line in logged if line["event"] == "stream_idle_longer"] == [30.0]


async def test_a_new_token_is_taken_up_without_a_gap(upstream: SseUpstream, tmp_path: Path) -> None:
    """The new connection is opened first, both listen for a while, and then the old one is closed."""
    file = tmp_path / "token"
    file.write_text("first")
    async with sse_rig(hasty(upstream.url, file.read_text)) as rig:
        old = await upstream.channel()
        await old.event("temp", 1)
        file.write_text("second")
        new = await upstream.channel(2)
        assert new.request.headers["authorization"] == "Bearer second"
        number = 1
        while not old.left.is_set():
            number += 1
            for channel in (old, new):
                with suppress(OSError):  # the old one may be gone by now
                    await channel.event("temp", number)
            await asyncio.sleep(0.01)
        await new.event("temp", number + 1)
        await rig.until(lambda: max(rig.numbers) == number + 1)

        assert set(rig.numbers) == set(range(1, number + 2))
        await rig.until(lambda: rig.coverage.causes == [Cause.STOPPED, None])
        first, second = rig.coverage.intervals
        assert first.until >= second.since + 0.05
        assert rig.stream.lost is None
        assert len(upstream.requests) == 2


async def test_a_successor_that_fails_costs_nothing(upstream: SseUpstream) -> None:
    """While the new token is refused, the connection that was opened with the old one goes on."""
    token = Token("old")
    rules = hasty(upstream.url, token)
    patient = replace(rules, stream=replace(rules.stream, reconnect=ReconnectRules(longest=600.0)))
    async with sse_rig(patient) as rig:
        channel = await upstream.channel()
        upstream.answers.append(an_answer("401 Unauthorized"))
        token.text = "wrong"
        await upstream.until(lambda: len(upstream.requests) == 2)
        await rig.until_read(token)
        await channel.event("temp", 1)
        await rig.until(lambda: rig.numbers == [1])
        assert (len(upstream.requests), rig.stream.state) == (2, "listening")


async def test_a_stop_settles_what_was_read(upstream: SseUpstream, rig: SseRig) -> None:
    """After `pause` everything that came is committed, the interval is ended as stopped, and nobody listens."""
    channel = await upstream.channel()
    await rig.until_up()
    await channel.event("temp", 1)
    await rig.until(lambda: rig.numbers == [1])
    await rig.source.pause()
    assert rig.coverage.causes == [Cause.STOPPED]
    assert rig.stream.state == "stopped"
    assert not rig.source.condition().up
    await channel.left.wait()


async def test_a_stop_while_the_store_is_away_does_not_hang(upstream: SseUpstream) -> None:
    """What cannot be written is left to the next start, which calls it down."""
    async with sse_rig(hasty(upstream.url, pause=0.1)) as rig:
        channel = await upstream.channel()
        await rig.until(lambda: rig.coverage.intervals)
        rig.store.close_gate()
        rig.coverage.away = True
        await channel.event("temp", 1)
        async with asyncio.timeout(4):
            await rig.source.pause()
        assert rig.coverage.causes == [None]
