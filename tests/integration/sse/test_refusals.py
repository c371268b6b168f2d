"""What upstream refuses, a token, an address or an id to resume from, and how a stream comes out of it by itself."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from ingest.event import Cause
from ingest.reconnect import ReconnectRules
from ingest.sources.sse.source import SseRules
from tests.support.sse_rig import Token, hasty, sse_rig
from tests.support.sse_upstream import SseUpstream, an_answer, frame

REFUSALS = ["401 Unauthorized", "403 Forbidden", "404 Not Found"]
HOUR = ReconnectRules(first=(3600.0, 3600.0), longest=0.02)


def waiting(rules: SseRules, reconnect: ReconnectRules) -> SseRules:
    """Return the rules with other waits."""
    return replace(rules, stream=replace(rules.stream, reconnect=reconnect))


@pytest.mark.parametrize("status", REFUSALS)
async def test_a_new_token_is_tried_at_once(upstream: SseUpstream, status: str) -> None:
    """However long a refused one has to wait, and the state says why."""
    said = b'{"error":"invalid_token","error_description":"The access token expired"}'
    upstream.answers += [an_answer(status, body=said)] * 2
    token = Token("old")
    async with sse_rig(waiting(hasty(upstream.url, token), HOUR)) as rig:
        await rig.until_lost(Cause.UNAUTHORIZED)
        await rig.until_read(token)
        assert len(upstream.requests) == 1
        assert rig.stream.state == "refused"
        assert rig.source.condition().reason == f"upstream answered {status[:3]}: The access token expired"

        token.text = "also wrong"
        await upstream.until(lambda: len(upstream.requests) == 2)
        await rig.until(lambda: rig.stream.state == "refused")
        token.text = "new"
        await (await upstream.channel()).event("temp")
        await rig.until(lambda: rig.names == ["temp"])
        assert [request.headers["authorization"] for request in upstream.requests] == [
            "Bearer old",
            "Bearer also wrong",
            "Bearer new",
        ]


@pytest.mark.parametrize("status", REFUSALS)
@pytest.mark.parametrize("token", [None, "static"])
async def test_a_refusal_that_passes_stops_no_stream(upstream: SseUpstream, status: str, token: str | None) -> None:
    """The token is the same or there is none: it is tried again, refused and alarming once until it is let in."""
    upstream.answers += [an_answer(status)] * 4
    with capture_logs() as logged:
        async with sse_rig(hasty(upstream.url, None if token is None else lambda: str(token))) as rig:
            seen: set[str] = set()

            def let_in() -> bool:
                seen.add(rig.stream.state if rig.source.condition().streams else "connecting")
                return rig.source.condition().up

            await rig.until_lost(Cause.UNAUTHORIZED)
            assert rig.stream.next_attempt_at is not None
            seen.clear()
            await rig.until(let_in)
            assert seen == {"refused", "listening"}
            await upstream.channels[0].event("temp")
            await rig.until(lambda: rig.names == ["temp"])
            assert rig.value("source_reconnects_total", cause="unauthorized") == 4
    assert [entry["event"] for entry in logged].count("stream_refused") == 1


async def test_a_refusal_is_waited_out_by_the_clock(upstream: SseUpstream) -> None:
    """An hour is an hour, and no longer."""
    upstream.answers.append(an_answer("404 Not Found"))
    async with sse_rig(waiting(hasty(upstream.url), HOUR)) as rig:
        await rig.until_lost(Cause.UNAUTHORIZED)
        rig.clock.ahead += 1700
        await rig.until_read(rig.clock)
        assert len(upstream.requests) == 1
        rig.clock.ahead += 1900
        await rig.until_up()


async def test_a_successor_that_was_refused_is_tried_again(upstream: SseUpstream) -> None:
    """A new token that is not in force yet is taken up when it is, without a gap and without another change."""
    token = Token("old")
    async with sse_rig(hasty(upstream.url, token)) as rig:
        old = await upstream.channel()
        upstream.answers += [an_answer("401 Unauthorized")] * 2
        token.text = "new"
        new = await upstream.channel(2)
        assert [request.headers["authorization"] for request in upstream.requests[1:]] == ["Bearer new"] * 3
        number = 0
        while not old.left.is_set():
            number += 1
            for channel in (old, new):
                with suppress(OSError):  # the old one may be gone by now
                    await channel.event("temp", number)
            await asyncio.sleep(0.01)
        await new.event("temp", 0)
        await rig.until(lambda: 0 in rig.numbers)
        assert set(rig.numbers) == set(range(number + 1))
        assert rig.stream.lost is None


@pytest.mark.parametrize("status", ["400 Bad Request", "410 Gone", "412 Precondition Failed", "422 Unprocessable"])
async def test_a_refused_id_is_dropped(upstream: SseUpstream, status: str) -> None:
    """Upstream does not know the id any more: it is asked once, then without, and what was missed lies in a gap."""
    async with sse_rig(hasty(upstream.url)) as rig:
        await (await upstream.channel()).say(b"id: 17\n" + frame("temp", 1))
        await rig.until(lambda: rig.numbers == [1])
        upstream.answers += [an_answer(status), an_answer("503 Later", "Retry-After: 0")]
        upstream.channels[0].reset()
        again = await upstream.channel(2)
        asked = [request.headers.get("last-event-id") for request in upstream.requests]
        assert asked == [None, "17", None, None]
        await rig.until(lambda: len(rig.coverage.intervals) == 2)
        first, second = rig.coverage.intervals
        assert first.until < second.since
        await again.say(b"id: 18\n" + frame("temp", 2))
        await rig.until(lambda: rig.numbers == [1, 2])
        again.reset()
        await upstream.channel(3)
        assert upstream.requests[-1].headers["last-event-id"] == "18"


@pytest.mark.parametrize("status", ["404 Not Found", "403 Forbidden"])
async def test_a_refusal_that_stays_drops_the_id_too(upstream: SseUpstream, status: str) -> None:
    """Some servers say 404 of an id; after a few refusals the stream is asked for without it."""
    async with sse_rig(hasty(upstream.url)) as rig:
        await (await upstream.channel()).say(b"id: 17\n" + frame("temp", 1))
        await rig.until(lambda: rig.numbers == [1])
        upstream.answers += [an_answer(status)] * 4
        upstream.channels[0].reset()
        await upstream.channel(2)
        asked = [request.headers.get("last-event-id") for request in upstream.requests]
        assert asked == [None, "17", "17", "17", "17", None]


@pytest.mark.parametrize("status", ["500 Oops", "503 Later", "408 Request Timeout", "429 Slow", "401 Unauthorized"])
async def test_other_answers_keep_the_id(upstream: SseUpstream, status: str) -> None:
    """A fault of the moment says nothing about the id: what was missed may still be had."""
    async with sse_rig(hasty(upstream.url)) as rig:
        await (await upstream.channel()).say(b"id: 17\n" + frame("temp", 1))
        await rig.until(lambda: rig.numbers == [1])
        upstream.answers += [an_answer(status, "Retry-After: 0")] * 2
        upstream.channels[0].reset()
        await upstream.channel(2)
        assert [request.headers.get("last-event-id") for request in upstream.requests[1:]] == ["17"] * 3
