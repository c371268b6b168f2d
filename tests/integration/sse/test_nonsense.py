"""Whatever upstream answers, one stream's attempt has failed: the source goes on, and so does every other stream."""

from __future__ import annotations

import random

import pytest

from ingest.event import Cause
from ingest.sources.sse.probe import probe
from tests.support.sse_rig import hasty, sse_rig
from tests.support.sse_upstream import CHUNKED, SseUpstream, an_answer

REDIRECT = "put the right address into url"
NONSENSE = {
    "304": (an_answer("304 Not Modified"), "upstream answered 304"),
    "300": (an_answer("300 Multiple Choices"), "upstream answered 300"),
    "redirect to nowhere": (an_answer("301 Moved Permanently"), "upstream answered 301"),
    "redirect to nothing": (an_answer("308 Permanent Redirect", "Location:"), REDIRECT),
    "redirect to no URL": (an_answer("302 Found", "Location: http://["), REDIRECT),
    "redirect to no port": (an_answer("302 Found", "Location: //[::1"), "a redirect to what is no address"),
    "redirect to no host": (an_answer("307 Temporary Redirect", "Location: http://xn--/"), REDIRECT),
    "redirect to no path": (an_answer("302 Found", "Location: javascript:alert(1)"), REDIRECT),
    "redirect to what is hidden": (an_answer("303 See Other", "Location: http://h/\u202eabc"), "http://h/abc: put"),
    "wait of ages": (an_answer("503 Later", "Retry-After: Tue, 28 Jul 99999999999999999999 0:0:0 GMT"), "answered 503"),
    "wait in a zone of ages": (
        an_answer("503 Later", "Retry-After: Tue, 28 Jul 2026 16:53:05 +99999999999999"),
        "answered 503",
    ),
    "length of ages": (an_answer("200 OK", f"Content-Length: {'9' * 5000}"), ""),
    "lengths": (an_answer("200 OK", "Content-Length: 5", "Content-Length: 6"), ""),
    "status of ages": (b"HTTP/1.1 99999999999 OK\r\n\r\n", "does not speak HTTP"),
    "another protocol": (an_answer("101 Switching Protocols", "Upgrade: h2c", "Connection: Upgrade"), ""),
    "coding": (CHUNKED[:-2] + b"Content-Encoding: \xff\xfe, gzip\r\n\r\n", "Content-Encoding"),
    "no gzip": (CHUNKED[:-2] + b"Content-Encoding: gzip\r\n\r\n3\r\nabc\r\n", "gzip is broken"),
    "an error that is a number": (an_answer("500 Oops", body=b'{"error":' + b"9" * 4000 + b"}"), "answered 500"),
    "an error without end": (an_answer("500 Oops", body=b'{"error":' + b"[" * 4000), "answered 500"),
    "an error compressed": (an_answer("500 Oops", "Content-Encoding: gzip", body=b"\x1f\x8b\xff"), "answered 500"),
    "a chunk of ages": (CHUNKED + b"f" * 400 + b"\r\n", ""),
    "NULs": (b"\0" * 4000, "does not speak HTTP"),
}


@pytest.mark.parametrize(("answer", "reason"), NONSENSE.values(), ids=NONSENSE)
async def test_nonsense_is_a_failed_attempt_of_one_stream(upstream: SseUpstream, answer: bytes, reason: str) -> None:
    """It has a cause that the operator can read, the other stream's connection stays, and the next attempt succeeds."""
    async with sse_rig(hasty(upstream.url, lambda: "t0ken", streams=2)) as rig:
        healthy, other = await upstream.channel(1), await upstream.channel(2)
        upstream.answers.append(answer)
        other.reset()
        again = await upstream.channel(3)
        assert not healthy.left.is_set()
        await healthy.event("temp", 1)
        await again.event("temp", 2)
        await rig.until(lambda: {1, 2} <= set(rig.numbers))
        lost = [state.lost for state in rig.source.condition().streams]
        assert None in lost, "the healthy stream is said to have been lost"
        assert {cause for cause in lost if cause} <= {Cause.ERROR, Cause.CLOSED}
    upstream.answers.append(answer)
    assert reason in str(await probe(upstream.url, "t0ken")) or "gzip" in reason


async def test_a_fault_of_our_own_reader_ends_no_other_stream(
    upstream: SseUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is raised while a stream is read is that stream's failed attempt, and says its name."""
    async with sse_rig(hasty(upstream.url, streams=2)) as rig:
        first, second = await upstream.channel(1), await upstream.channel(2)
        decode = rig.format.decode_frames

        def stumble(*args: object) -> object:
            monkeypatch.setattr(rig.format, "decode_frames", decode)
            raise ArithmeticError("no list of errors holds this one")

        monkeypatch.setattr(rig.format, "decode_frames", stumble)
        await first.event("temp", 1)
        await upstream.channel(3)
        await second.event("temp", 2)
        await rig.until(lambda: rig.numbers == [2])
        await rig.until(lambda: rig.coverage.causes.count(Cause.ERROR) == 1)
        assert rig.value("source_reconnects_total", cause="error") == 1


PARTS = [
    b"HTTP/1.1 ", b"HTTP/9.9 ", b"200 OK", b"301 M", b"304 ", b"401 ", b"503 ", b"\r\n", b"\n", b"\r\n\r\n", b":", b" ",
    b"Location: ", b"Retry-After: ", b"Content-Length: ", b"Content-Encoding: gzip", b"Content-Type: text/event-stream",
    b"Transfer-Encoding: chunked", b"http://[", b"9" * 30, b"-1", b"\xff\xfe", b"\0", b"data: x\n\n", b"id: \xff\n",
    b"\x1f\x8b",
]  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
async def test_a_stream_is_opened_after_any_answers(upstream: SseUpstream, seed: int) -> None:
    """Answers out of scraps of HTTP: none of them ends the source, and the stream that follows them is heard."""
    chance = random.Random(seed)
    for _ in range(40):
        scraps = chance.choices(PARTS, k=chance.randrange(1, 14))
        upstream.answers.append(chance.choice([b"", b"HTTP/1.1 200 OK\r\n"]) + b"".join(scraps))
    async with sse_rig(hasty(upstream.url)) as rig:
        await upstream.until(lambda: len(upstream.channels) >= 1, seconds=20)
        await upstream.channels[-1].event("fresh", 7)
        await rig.until(lambda: "fresh" in rig.names)
