"""Whether a stream can be listened to, as `check --connect` finds out."""

from __future__ import annotations

import asyncio

import pytest

from ingest.sources.sse.probe import Refused, probe
from tests.support.sse_upstream import SseUpstream, an_answer

UNKNOWN_TOKEN = b'{"error":"invalid_token","error_description":"The access token provided is invalid."}'
STREAM = "Content-Type: text/event-stream"


async def test_a_stream_is_opened_as_the_source_does_and_left(upstream: SseUpstream) -> None:
    """With the token, for an event stream; the connection is closed at once."""
    assert await probe(upstream.url, "t0ken") is None

    channel = await upstream.channel()
    assert channel.request.headers["authorization"] == "Bearer t0ken"
    assert channel.request.headers["accept"] == "text/event-stream"
    async with asyncio.timeout(10):
        await channel.left.wait()


@pytest.mark.parametrize(
    ("answer", "refused"),
    [
        (
            an_answer("401 Unauthorized", body=UNKNOWN_TOKEN),
            Refused("upstream answered 401: The access token provided is invalid.", of_token=True),
        ),
        (an_answer("403 Forbidden"), Refused("upstream answered 403", of_token=True)),
        (an_answer("404 Not Found"), Refused("upstream answered 404")),
        (an_answer("429 Too Many Requests"), Refused("upstream answered 429, too many requests")),
        (
            an_answer("200 OK", "Content-Type: text/html", body=b"<p>"),
            Refused("upstream answered with text/html, not with text/event-stream"),
        ),
        (
            an_answer("200 OK", STREAM, "Content-Encoding: br"),
            Refused("upstream answered with Content-Encoding 'br'"),
        ),
        (b"SSH-2.0-OpenSSH\r\n\r\n", Refused("upstream does not speak HTTP as it should")),
    ],
)
async def test_what_is_no_stream_is_refused(answer: bytes, refused: Refused, upstream: SseUpstream) -> None:
    """In upstream's words where it has some, and told apart: the token is refused, or the address is wrong."""
    upstream.answers.append(answer)

    assert await probe(upstream.url, "t0ken") == refused


async def test_a_token_that_no_header_can_carry_is_refused(upstream: SseUpstream) -> None:
    """Nothing is sent with it."""
    refused = await probe(upstream.url, "two\nlines")

    assert refused is not None
    assert refused.of_token
    assert upstream.requests == []


async def test_a_silent_server_is_not_waited_for(upstream: SseUpstream) -> None:
    """The time that is given is kept."""
    upstream.answers.append(None)

    assert await probe(upstream.url, None, seconds=0.2) == Refused("connected, but no answer within 0.2 s")
