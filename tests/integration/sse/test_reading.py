"""Reading an SSE stream: whatever upstream sends is stored or kept, and what could not be read is a gap."""

from __future__ import annotations

import gzip
import time
import zlib
from dataclasses import replace

import pytest

from ingest.event import Cause, Event, Reason
from tests.support.sse_rig import HASTY, SseRig, hasty, sse_rig
from tests.support.sse_upstream import CHUNKED, PLAIN, Channel, SseUpstream, frame


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


async def test_a_gzip_member_for_each_event(upstream: SseUpstream) -> None:
    """All of them are stored, as they come, and each end of a member proves as much as a flush."""
    upstream.head = CHUNKED[:-2] + b"Content-Encoding: gzip\r\n\r\n"
    async with sse_rig(hasty(upstream.url)) as rig:
        channel = await upstream.channel()
        for number in range(3):
            await channel.say(gzip.compress(frame("temp", number)))
            await rig.until(lambda number=number: rig.numbers == list(range(number + 1)))  # type: ignore[misc]

        async def squeezed(data: bytes) -> None:
            await channel.say(gzip.compress(data))

        await rig.until_proven(squeezed, lambda: rig.has_proven)
        await channel.say(b"".join(gzip.compress(frame("temp", number)) for number in range(3, 200)))
        await rig.until(lambda: rig.numbers == list(range(200)))
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
        sent = rig.clock()
        await channel.say(end)
        await rig.until_proven(channel.say, lambda: rig.coverage.intervals[0].until >= sent)


async def test_more_than_the_inbox_ever_holds_is_offered_in_parts(upstream: SseUpstream) -> None:
    """A burst in one read is not lost on a small inbox."""
    async with sse_rig(hasty(upstream.url), max_events=3) as rig:
        await (await upstream.channel()).say(b"".join(frame("temp", number) for number in range(20)))
        await rig.until(lambda: rig.numbers == list(range(20)))


async def test_a_store_away_for_a_while_is_no_gap(upstream: SseUpstream, rig: SseRig) -> None:
    """While the inbox has room, reading goes on: the interval catches up when the events are settled."""
    channel = await upstream.channel()
    await rig.until(lambda: rig.coverage.intervals)
    rig.store.close_gate()
    rig.coverage.away = True
    for number in range(5):
        await channel.event("temp", number)
        await rig.until_received(number + 1)
    sent = rig.clock()
    assert rig.coverage.intervals[0].until == rig.coverage.intervals[0].since
    rig.store.open_gate()
    rig.coverage.away = False
    await rig.until_proven(channel.say, lambda: rig.coverage.intervals[0].until >= sent)
    assert rig.coverage.causes == [None]


async def held_for_a_second(upstream: SseUpstream, rig: SseRig) -> tuple[Channel, float, float]:
    """Let a reader wait for room in an inbox of two; return its connection, and from when until when it waited."""
    channel = await upstream.channel()
    await rig.until_up()
    await channel.event("temp", 0)
    await rig.until_proven(channel.say, lambda: rig.has_proven)
    rig.store.close_gate()
    for number in range(1, 6):
        await channel.event("temp", number)
    await rig.until_received(4)  # one more than there is room for
    held_from = rig.clock()
    rig.clock.ahead += 1.0
    held_until = rig.clock()
    rig.store.open_gate()
    await rig.until(lambda: rig.numbers == list(range(6)))
    return channel, held_from, held_until


async def test_reading_that_was_held_is_a_gap(upstream: SseUpstream) -> None:
    """The interval ends before the hold, and another begins with the first look after it that a byte proves."""
    async with sse_rig(hasty(upstream.url), max_events=2) as rig:
        channel, held_from, held_until = await held_for_a_second(upstream, rig)
        await rig.until_proven(channel.say, lambda: rig.coverage.causes == [Cause.OVERFLOW, None])
        before, after = rig.coverage.intervals
        assert before.until <= held_from
        assert after.since >= held_until


async def test_upstream_that_was_stopped_is_given_time_to_catch_up(upstream: SseUpstream) -> None:
    """After a hold an empty socket does not mean that all has come: for a while nothing is proven."""
    patient = replace(HASTY, behind=600.0, frozen=float("inf"))
    async with sse_rig(replace(hasty(upstream.url), stream=patient), max_events=2) as rig:
        channel, _, held_until = await held_for_a_second(upstream, rig)
        for _ in range(3):
            await rig.until_read(rig.clock)
            await channel.say(b"\n")
        assert rig.coverage.causes == [None]
        rig.clock.ahead += 600
        await rig.until_proven(channel.say, lambda: rig.coverage.causes == [Cause.OVERFLOW, None])
        assert rig.coverage.intervals[1].since >= held_until + 600


async def test_a_frozen_process_may_have_missed_something(upstream: SseUpstream, rig: SseRig) -> None:
    """A stop of the whole process is as if reading had been held, and is called down."""
    channel = await upstream.channel()
    await rig.until_up()
    await rig.until_proven(channel.say, lambda: rig.has_proven)
    frozen_from = rig.clock()
    rig.clock.ahead += 60
    await rig.until_proven(channel.say, lambda: rig.coverage.causes == [Cause.DOWN, None])
    before, after = rig.coverage.intervals
    assert before.until <= frozen_from
    assert after.since >= frozen_from + 60


@pytest.mark.parametrize("sent", ["events", "events and the end", "nothing"])
async def test_what_lay_in_the_kernel_is_whole(upstream: SseUpstream, sent: str) -> None:
    """After a suspension of more than the idle timeout it is stored before the stream is judged, and that was down."""
    rules = hasty(upstream.url, idle=0.3)
    async with sse_rig(replace(rules, stream=replace(rules.stream, frozen=0.3))) as rig:
        channel = await upstream.channel()
        await rig.until_up()
        await rig.until_proven(channel.say, lambda: rig.has_proven)
        if sent != "nothing":
            channel.write(frame("temp", 1) + frame("temp", 2))
        if sent == "events and the end":
            channel.close()
        time.sleep(1.0)  # noqa: ASYNC251 - nothing runs meanwhile, as in a process that is suspended
        if sent == "events":
            await rig.until(lambda: rig.numbers == [1, 2])
            await rig.until_proven(channel.say, lambda: rig.coverage.causes == [Cause.DOWN, None])
            assert len(upstream.requests) == 1
        else:
            await rig.until(lambda: rig.coverage.causes[0] is Cause.DOWN)
            await upstream.channel(2)
            assert rig.numbers == ([1, 2] if sent == "events and the end" else [])
