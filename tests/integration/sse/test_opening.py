"""Opening an SSE stream: how upstream is asked, what it may answer instead, and when it is asked again."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from ingest.event import Cause, Event
from ingest.reconnect import OpenBudget
from tests.support.sse_rig import SseRig, hasty, sse_rig
from tests.support.sse_upstream import CHUNKED, SseUpstream, an_answer


async def test_how_upstream_is_asked(upstream: SseUpstream, rig: SseRig) -> None:
    """With the token, for an event stream, not from a cache, not compressed; without an id that nobody gave."""
    request = (await upstream.channel()).request
    assert request.line == "GET /v1/products/tracker/events HTTP/1.1"
    assert request.headers["authorization"] == "Bearer t0ken"
    assert request.headers["accept"] == "text/event-stream"
    assert request.headers["cache-control"] == "no-store"
    assert request.headers["accept-encoding"] == "identity"
    assert "last-event-id" not in request.headers
    assert not rig.records


REFUSALS = {
    "500": (an_answer("500 Oops"), Cause.ERROR, "upstream answered 500"),
    "503": (an_answer("503 Later", "Retry-After: 0"), Cause.ERROR, "upstream answered 503"),
    "429": (an_answer("429 Slow", "Retry-After: 0"), Cause.RATE_LIMITED, "upstream answered 429, too many requests"),
    "529": (an_answer("529 Slow"), Cause.RATE_LIMITED, "upstream answered 529, too many requests"),
    "html": (
        an_answer("200 OK", "Content-Type: text/html", body=b"<html>"),
        Cause.ERROR,
        "upstream answered with text/html, not with text/event-stream",
    ),
    "nothing": (an_answer("204 No Content"), Cause.ERROR, "upstream answered 204"),
    "redirect": (
        an_answer("302 Found", "Location: https://elsewhere.example/e?access_token=t0ken"),
        Cause.ERROR,
        "upstream answered 302, a redirect to https://elsewhere.example/e: put the right address into url",
    ),
    "brotli": (CHUNKED[:-2] + b"Content-Encoding: br\r\n\r\n", Cause.ERROR, "Content-Encoding 'br'"),
    "no http": (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", Cause.ERROR, "upstream does not speak HTTP as it should"),
    "error text": (
        an_answer("500 Oops", body=b'{"error":"server_error","error_description":"Try later\\n"}'),
        Cause.ERROR,
        "upstream answered 500: Try later",
    ),
    "echo": (an_answer("500 Oops", body=b'{"error":"bad t0ken"}'), Cause.ERROR, "upstream answered 500"),
}


@pytest.mark.parametrize(("answer", "cause", "reason"), REFUSALS.values(), ids=REFUSALS)
async def test_an_answer_that_is_no_stream_is_named_and_tried_again(
    upstream: SseUpstream, answer: bytes, cause: Cause, reason: str
) -> None:
    """The state says why, the reconnect is counted by its cause, and the next answer is listened to."""
    upstream.answers.append(answer)
    async with sse_rig(hasty(upstream.url, lambda: "t0ken")) as rig:
        await rig.until_lost(cause)
        assert reason in (rig.source.condition().reason or "")
        assert not rig.source.condition().up
        await (await upstream.channel()).event("temp")
        await rig.until(lambda: rig.names == ["temp"])

        assert rig.value("source_reconnects_total", cause=cause.value) == 1
        assert rig.source.condition().up
        assert len(rig.coverage.intervals) == 1


@pytest.mark.parametrize("token", ["", "two\r\nlines", "schlüssel"])
async def test_a_token_that_no_header_can_carry_is_not_sent(upstream: SseUpstream, token: str) -> None:
    """It is a fault of the token, and is named without showing it."""
    async with sse_rig(hasty(upstream.url, lambda: token)) as rig:
        await rig.until_lost(Cause.UNAUTHORIZED)
        assert rig.source.condition().reason == "the token is empty or holds characters that no header can carry"
        assert not upstream.requests


@pytest.mark.parametrize(
    "content_type",
    [
        "Text/Event-Stream; charset=utf-8; x=y",
        "text/event-stream, text/event-stream",
        "text/plain,text/event-stream;q=1",
    ],
)
async def test_a_content_type_may_have_parameters_or_be_a_list(upstream: SseUpstream, content_type: str) -> None:
    """A proxy that adds its own does not cost the stream."""
    upstream.head = f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nConnection: close\r\n\r\n".encode()
    async with sse_rig(hasty(upstream.url)) as rig:
        await (await upstream.channel()).event("temp")
        await rig.until(lambda: rig.names == ["temp"])


@pytest.mark.parametrize("wish", ["600", "date"])
async def test_retry_after_takes_the_place_of_the_wait(upstream: SseUpstream, wish: str) -> None:
    """As seconds or as a date; the state says when upstream is asked again."""
    asked = datetime.now(UTC)
    date = format_datetime(asked + timedelta(seconds=600), usegmt=True)
    upstream.answers.append(an_answer("429 Slow", f"Retry-After: {date if wish == 'date' else wish}"))
    async with sse_rig(hasty(upstream.url)) as rig:
        await rig.until_lost(Cause.RATE_LIMITED)
        assert rig.stream.state == "waiting"
        assert rig.stream.next_attempt_at is not None
        wait = (rig.stream.next_attempt_at - rig.stream.since).total_seconds()
        late = (rig.stream.since - asked).total_seconds()  # and a date has no fractions
        assert 599 - (late if wish == "date" else 0) <= wait <= 601
        await rig.until_read(rig.clock)
        assert len(upstream.requests) == 1


async def test_a_server_that_never_answers_is_given_up(upstream: SseUpstream) -> None:
    """Accepting is no answer: the idle timeout counts from there."""
    upstream.answers.append(None)
    async with sse_rig(hasty(upstream.url, idle=0.2)) as rig:
        await rig.until_lost(Cause.IDLE)
        assert rig.stream.reason == "connected, but no answer within 0.2 s"
        await upstream.channel()
        await rig.until_up()


async def test_upstream_that_is_away_is_asked_until_it_is_back(upstream: SseUpstream, rig: SseRig) -> None:
    """Refused connections are named; when it listens again, so do we."""
    await upstream.channel()
    upstream.go()
    await rig.until_lost(Cause.REFUSED)
    assert rig.stream.reason == "no connection: Connection refused"
    await upstream.listen()
    await upstream.channel(2)
    await rig.until_up()
    assert (rig.value("source_reconnects_total", cause="refused") or 0) >= 1


async def test_a_name_that_cannot_be_resolved() -> None:
    """It is named; whether it ever can is tried again."""
    async with sse_rig(hasty("http://no-such-host.invalid/events")) as rig:
        await rig.until_lost(Cause.REFUSED)
        assert (rig.source.condition().reason or "").startswith("the host's name cannot be resolved")


async def test_no_host_is_asked_more_often_than_allowed(upstream: SseUpstream) -> None:
    """The budget counts all opens of all sources of the process, whatever becomes of them."""
    upstream.answers += [an_answer("500 Oops")] * 100
    budget = OpenBudget(most=5, seconds=0.2)
    loop = asyncio.get_running_loop()
    async with sse_rig(hasty(upstream.url), budget=budget), sse_rig(hasty(upstream.url, streams=2), budget=budget):
        started = loop.time()
        await upstream.until(lambda: len(upstream.requests) >= 12)
        assert loop.time() - started >= 0.39


async def test_two_streams_are_two_connections(upstream: SseUpstream) -> None:
    """They are opened together, each event carries its stream's number, and one alone keeps the source up."""
    async with sse_rig(hasty(upstream.url, streams=2)) as rig:
        channels = [await upstream.channel(1), await upstream.channel(2)]
        assert abs(upstream.requests[0].at - upstream.requests[1].at) < 2
        for channel in channels:
            await channel.event("temp", 1)
        await rig.until(lambda: len(rig.records) == 2)
        assert {record.stream for record in rig.records if isinstance(record, Event)} == {1, 2}
        upstream.answers.append(None)
        channels[0].reset()
        await rig.until(lambda: "connecting" in {state.state for state in rig.source.condition().streams})
        assert rig.source.condition().up
        assert rig.value("source_up") is not None
