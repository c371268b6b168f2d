"""The SSE source against a real server: whatever upstream does is survived, named, and accounted for."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from ingest.event import Cause, Event, Reason
from ingest.reconnect import OpenBudget
from ingest.stream import watch
from tests.support.sse_rig import SseRig, hasty, sse_rig
from tests.support.sse_upstream import CHUNKED, PLAIN, SseUpstream, an_answer, frame


async def test_what_is_sent_is_stored(upstream: SseUpstream, rig: SseRig) -> None:
    """Greeting, keep-alives and events: the events are there, with the number of the stream; the source is up."""
    channel = await upstream.channel()
    await channel.say(b":ok\n\n")
    await channel.event("temp", 1)
    await channel.say(b"\n")
    await channel.say(frame("alarm", 2) + frame("hook-sent/x") + frame("", 3))
    await rig.until(lambda: len(rig.records) == 4)

    assert rig.names == ["temp", "alarm"]
    assert [record.stream for record in rig.records if isinstance(record, Event)] == [1, 1]
    assert [reject.reason for reject in rig.rejects()] == [Reason.MISSING_NAME]
    assert rig.metrics.counts("fleet", "sse")["received"] == 4
    condition = rig.source.condition()
    assert (condition.up, condition.reason, condition.streams[0].state) == (True, None, "listening")
    assert (rig.source.last_seen().byte_at, rig.stream.last_byte_at) == (rig.stream.last_byte_at,) * 2
    assert rig.value("source_last_byte_timestamp_seconds") is not None


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


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden", "404 Not Found"])
async def test_a_refused_token_is_not_tried_again(upstream: SseUpstream, status: str) -> None:
    """The stream stops and says why, and goes on as soon as its token changes."""
    said = b'{"error":"invalid_token","error_description":"The access token expired"}'
    upstream.answers += [an_answer(status, body=said)] * 2
    tokens = ["old"]
    async with sse_rig(hasty(upstream.url, lambda: tokens[0])) as rig:
        await rig.until_lost(Cause.UNAUTHORIZED)
        await asyncio.sleep(0.2)
        assert len(upstream.requests) == 1
        assert rig.stream.state == "refused"
        assert rig.source.condition().reason == f"upstream answered {status[:3]}: The access token expired"

        tokens[0] = "also wrong"
        await upstream.until(lambda: len(upstream.requests) == 2)
        await rig.until(lambda: rig.stream.state == "refused")
        tokens[0] = "new"
        await (await upstream.channel()).event("temp")
        await rig.until(lambda: rig.names == ["temp"])
        assert [request.headers["authorization"] for request in upstream.requests] == [
            "Bearer old",
            "Bearer also wrong",
            "Bearer new",
        ]


@pytest.mark.parametrize("token", ["", "two\r\nlines", "schlüssel"])
async def test_a_token_that_no_header_can_carry_is_not_sent(upstream: SseUpstream, token: str) -> None:
    """It is a fault of the token, and is named without showing it."""
    async with sse_rig(hasty(upstream.url, lambda: token)) as rig:
        await rig.until_lost(Cause.UNAUTHORIZED)
        assert rig.source.condition().reason == "the token is empty or holds characters that no header can carry"
        assert not upstream.requests


@pytest.mark.parametrize("wish", ["1", "date"])
async def test_retry_after_takes_the_place_of_the_wait(upstream: SseUpstream, wish: str) -> None:
    """As seconds or as a date."""
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
    upstream.answers.append(an_answer("429 Slow", f"Retry-After: {date if wish == 'date' else wish}"))
    async with sse_rig(hasty(upstream.url)) as rig:
        await rig.until_lost(Cause.RATE_LIMITED)
        assert rig.stream.state == "waiting"
        await upstream.channel()
        first, second = upstream.requests
        assert second.at - first.at >= 0.95


async def test_a_stream_without_a_word_is_dead(upstream: SseUpstream) -> None:
    """After the idle timeout without a byte, and not before: bare newlines keep it alive."""
    loop = asyncio.get_running_loop()
    async with sse_rig(hasty(upstream.url, idle=0.3)) as rig:
        channel = await upstream.channel()
        for _ in range(8):
            await channel.say(b"\n")
            await asyncio.sleep(0.1)
        assert rig.stream.lost is None
        silent_since = loop.time()
        await rig.until_lost(Cause.IDLE)
        assert 0.15 <= loop.time() - silent_since <= 1.3
        assert rig.stream.reason == "nothing came for 0.3 s"
        await upstream.channel(2)
        await rig.until(lambda: rig.coverage.causes == [Cause.IDLE, None])
        first, second = rig.coverage.intervals
        assert first.until < second.since - 0.25


async def test_a_server_that_never_answers_is_given_up(upstream: SseUpstream) -> None:
    """Accepting is no answer: the idle timeout counts from there."""
    upstream.answers.append(None)
    async with sse_rig(hasty(upstream.url, idle=0.2)) as rig:
        await rig.until_lost(Cause.IDLE)
        assert rig.stream.reason == "connected, but no answer within 0.2 s"
        await upstream.channel()
        await rig.until_up()


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
    proven = rig.coverage.intervals[0].until
    await asyncio.sleep(0.1)
    channel.reset()
    await rig.until(lambda: rig.coverage.causes[0] is Cause.ERROR)
    assert rig.stream.reason == "the connection was reset"
    assert rig.coverage.intervals[0].until == pytest.approx(proven, abs=0.05)


async def test_what_is_sent_again_is_offered_again(upstream: SseUpstream, rig: SseRig) -> None:
    """The last ten events come once more on the next connection: it is for their ids to tell."""
    frames = [frame("temp", number) for number in range(12)]
    first = await upstream.channel()
    await first.say(b"".join(frames))
    await rig.until(lambda: len(rig.records) == 12)
    first.reset()
    await (await upstream.channel(2)).say(b"".join(frames[2:]))
    await rig.until(lambda: len(rig.records) == 22)
    assert len({record.id for record in rig.records if isinstance(record, Event)}) == 12


async def test_ids_and_waits_of_the_stream_are_honoured(upstream: SseUpstream, rig: SseRig) -> None:
    """`retry:` is the least wait, and the last id is sent, also after connections that gave none."""
    await (await upstream.channel()).say(b"retry: 300\nid: a\xc3\xa47\n" + frame("temp"))
    await rig.until(lambda: rig.names)
    ended = asyncio.get_running_loop().time()
    await upstream.channels[0].finish()
    await (await upstream.channel(2)).finish()
    await upstream.channel(3)
    assert upstream.requests[1].at - ended >= 0.29
    assert [request.headers.get("last-event-id") for request in upstream.requests] == [None, "aÃ¤7", "aÃ¤7"]


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
    budget = OpenBudget(most=5, seconds=0.5)
    loop = asyncio.get_running_loop()
    async with sse_rig(hasty(upstream.url), budget=budget), sse_rig(hasty(upstream.url, streams=2), budget=budget):
        started = loop.time()
        await upstream.until(lambda: len(upstream.requests) >= 12)
        assert loop.time() - started >= 0.9


async def test_gzip_is_understood_though_not_asked_for(upstream: SseUpstream) -> None:
    """Each event is there as soon as upstream flushes it, and proves as much as one in the open."""
    upstream.head = CHUNKED[:-2] + b"Content-Encoding: gzip\r\n\r\n"
    async with sse_rig(hasty(upstream.url)) as rig:
        channel = await upstream.channel()
        squeeze = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
        for number in range(3):
            await channel.say(squeeze.compress(frame("temp", number)) + squeeze.flush(zlib.Z_SYNC_FLUSH))
            await rig.until(lambda number=number: rig.numbers == list(range(number + 1)))  # type: ignore[misc]

        async def squeezed(data: bytes) -> None:
            await channel.say(squeeze.compress(data) + squeeze.flush(zlib.Z_SYNC_FLUSH))

        await rig.until_proven(squeezed, lambda: rig.has_proven)
        await channel.say(squeeze.flush())
        await channel.finish()
        await rig.until_lost(Cause.CLOSED)


async def test_broken_gzip_is_an_error(upstream: SseUpstream) -> None:
    """What came before it is stored."""
    upstream.head = CHUNKED[:-2] + b"Content-Encoding: gzip\r\n\r\n"
    async with sse_rig(hasty(upstream.url)) as rig:
        channel = await upstream.channel()
        await channel.say(gzip.compress(b"")[:10] + b"\x07")
        await rig.until_lost(Cause.ERROR)
        assert rig.stream.reason == "upstream's gzip is broken"


async def test_a_line_of_five_mebibytes_is_a_reject(upstream: SseUpstream, rig: SseRig) -> None:
    """Its beginning is kept, and what follows it is stored."""
    channel = await upstream.channel()
    await channel.say(b"event: big\ndata: ")
    for _ in range(80):
        await channel.say(b"x" * 65536)
    await channel.say(b"\n\n" + frame("temp"))
    await rig.until(lambda: rig.names == ["temp"])
    (reject,) = rig.rejects()
    assert (reject.reason, len(reject.body)) == (Reason.TOO_LARGE, 65536)


@pytest.mark.parametrize("head", [CHUNKED, PLAIN])
@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
async def test_every_cut_of_the_bytes(upstream: SseUpstream, head: bytes, end: bytes) -> None:
    """However small the pieces, the same events come, and in the end all of it is proven."""
    upstream.head = head
    async with sse_rig(hasty(upstream.url)) as rig:
        channel = await upstream.channel()
        text = b"\xef\xbb\xbf:ok\n\n" + frame("a\u2028b", 1) + frame("error", 2)
        for byte in text.replace(b"\n", end):
            await channel.say(bytes([byte]))
        await rig.until(lambda: rig.names == ["a\u2028b", "error"])
        sent = rig.coverage.clock()
        await channel.say(end)
        await rig.until_proven(channel.say, lambda: rig.coverage.intervals[0].until >= sent)


async def test_more_than_the_inbox_ever_holds_is_offered_in_parts(upstream: SseUpstream) -> None:
    """A burst in one read is not lost on a small inbox."""
    async with sse_rig(hasty(upstream.url), max_events=3) as rig:
        await (await upstream.channel()).say(b"".join(frame("temp", number) for number in range(20)))
        await rig.until(lambda: rig.numbers == list(range(20)))


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
    tokens = ["old"]
    async with sse_rig(hasty(upstream.url, lambda: tokens[0])) as rig:
        channel = await upstream.channel()
        upstream.answers.append(an_answer("401 Unauthorized"))
        tokens[0] = "wrong"
        await upstream.until(lambda: len(upstream.requests) == 2)
        await asyncio.sleep(0.2)
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


async def test_a_stop_while_the_store_is_away_does_not_hang(upstream: SseUpstream, rig: SseRig) -> None:
    """What cannot be written is left to the next start, which calls it down."""
    channel = await upstream.channel()
    await rig.until(lambda: rig.coverage.intervals)
    rig.store.close_gate()
    rig.coverage.away = True
    await channel.event("temp", 1)
    async with asyncio.timeout(4):
        await rig.source.pause()
    assert rig.coverage.causes == [None]


async def test_a_store_away_for_a_while_is_no_gap(upstream: SseUpstream, rig: SseRig) -> None:
    """While the inbox has room, reading goes on: the interval catches up when the events are settled."""
    channel = await upstream.channel()
    await rig.until(lambda: rig.coverage.intervals)
    rig.store.close_gate()
    rig.coverage.away = True
    for number in range(5):
        await channel.event("temp", number)
        await asyncio.sleep(0.02)
    sent = rig.coverage.clock() - 0.03
    assert rig.coverage.intervals[0].until == rig.coverage.intervals[0].since
    rig.store.open_gate()
    rig.coverage.away = False
    await rig.until_proven(channel.say, lambda: rig.coverage.intervals[0].until >= sent)
    assert rig.coverage.causes == [None]


async def test_reading_that_was_held_is_a_gap(upstream: SseUpstream) -> None:
    """The interval ends before the hold, and another begins with the first look after it that a byte proves."""
    async with sse_rig(hasty(upstream.url), max_events=2) as rig:
        channel = await upstream.channel()
        await rig.until_up()
        await channel.event("temp", 0)
        await rig.until_proven(channel.say, lambda: rig.has_proven)
        rig.store.close_gate()
        for number in range(1, 6):
            await channel.event("temp", number)
            await asyncio.sleep(0.02)
        held_from = rig.coverage.clock()
        await asyncio.sleep(0.4)
        held_until = rig.coverage.clock()
        rig.store.open_gate()
        await rig.until(lambda: rig.numbers == list(range(6)))
        await rig.until_proven(channel.say, lambda: rig.coverage.causes == [Cause.OVERFLOW, None])
        before, after = rig.coverage.intervals
        assert before.until <= held_from
        assert after.since >= held_until


async def test_a_frozen_process_may_have_missed_something(
    upstream: SseUpstream, rig: SseRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stop of the whole process is as if reading had been held."""
    monkeypatch.setattr(watch, "FROZEN_SECONDS", 0.05)
    channel = await upstream.channel()
    await rig.until_up()
    await rig.until_proven(channel.say, lambda: rig.has_proven)
    frozen_from = rig.coverage.clock()
    await asyncio.to_thread(lambda: None)
    _freeze(0.2)
    await rig.until_proven(channel.say, lambda: rig.coverage.causes == [Cause.OVERFLOW, None])
    before, after = rig.coverage.intervals
    assert before.until <= frozen_from
    assert after.since >= frozen_from + 0.2


def _freeze(seconds: float) -> None:
    """Hold the event loop up."""
    import time

    time.sleep(seconds)
