"""The `http` handler and a receiver that answers as receivers do, and as they should not."""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path
from typing import Any

import msgspec
import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from app.handlers.http.connector import HeadFirst, make_connector
from app.handlers.http.handler import HttpHandler
from app.handlers.http.settings import HttpSettings
from ingest.delivery import DeliveryFailed, FailureCause, Verdict
from ingest.settings.secret import Secret
from tests.support.dispatching import an_event, until
from tests.support.raw_receiver import (
    GIB,
    Answer,
    Flood,
    RawReceiver,
    Received,
    dribbling,
    hanging,
    raw_receiver,
    resetting,
    saying,
    status,
)
from tests.support.server import free_port

OLD, NEW = (Secret("whsec_" + b64encode(b"%b secret of a test" % age).decode()) for age in (b"old", b"new"))
FLOOD_BYTES = 16 << 20  # what sockets and buffers may hold of an answer that nobody reads; a GiB is far more
EVENT = an_event(1)


@pytest.fixture
async def receiver() -> AsyncIterator[RawReceiver]:
    """A receiver that answers 204 until it is told otherwise."""
    async with raw_receiver() as receiver:
        yield receiver


Make = Callable[..., HttpHandler]


@pytest.fixture
async def make(receiver: RawReceiver, tmp_path: Path) -> AsyncIterator[Make]:
    """Makes handlers that are closed when the test is over."""
    async with AsyncExitStack() as stack:

        def made(**settings: Any) -> HttpHandler:
            handler = HttpSettings(**{"url": receiver.url} | settings).build("h", tmp_path)
            stack.push_async_callback(handler.close)
            return handler

        yield made


async def failure(handler: HttpHandler) -> DeliveryFailed:
    """How delivering an event fails."""
    with pytest.raises(DeliveryFailed) as caught:
        await handler.deliver([EVENT])
    return caught.value


def verify(secret: Secret, request: Received) -> None:
    """Have the library of Standard Webhooks look at a request. Raises WebhookVerificationError."""
    Webhook(secret.value()).verify(request.body, request.headers, json_parse=False)


async def test_a_request_says_who_sends_what(make: Make, receiver: RawReceiver) -> None:
    """The event's id, the time, the agent, and no coding of the answer that would have to be undone."""
    await make().deliver([EVENT])
    (request,) = receiver.received
    assert request.head.startswith("POST /events HTTP/1.1\r\n")
    assert request.headers["webhook-id"] == str(EVENT.id) == json.loads(request.body)["id"]
    assert abs(int(request.headers["webhook-timestamp"]) - time.time()) < 60
    assert request.headers["user-agent"].startswith("headrace/")
    assert "webhook-signature" not in request.headers
    assert "authorization" not in request.headers
    assert "accept-encoding" not in request.headers


@pytest.mark.parametrize("format_", ["cloudevents", "cloudevents-binary", "plain"])
async def test_each_secret_signs(make: Make, receiver: RawReceiver, format_: str) -> None:
    """A receiver that knows either of two secrets verifies, one that knows another does not, nor a changed body."""
    await make(secrets=[OLD, NEW], format=format_).deliver([EVENT])
    (request,) = receiver.received
    verify(OLD, request)
    verify(NEW, request)
    with pytest.raises(WebhookVerificationError):
        verify(NEW, replace(request, body=request.body + b" "))
    with pytest.raises(WebhookVerificationError):
        verify(Secret("whsec_b3RoZXI="), request)


async def test_bytes_are_signed_as_they_are(make: Make, receiver: RawReceiver) -> None:
    """In binary mode the body may be no UTF-8, which the library cannot read: so here by the specification's words."""
    image = msgspec.structs.replace(EVENT, data=b"\xff\xd8\x00", content_type="application/octet-stream")
    await make(secrets=[OLD], format="cloudevents-binary").deliver([image])
    (request,) = receiver.received
    signed = f"{request.headers['webhook-id']}.{request.headers['webhook-timestamp']}.".encode() + b"\xff\xd8\x00"
    expected = hmac.digest(b"old secret of a test", signed, "sha256")
    assert request.body == b"\xff\xd8\x00"
    assert request.headers["webhook-signature"] == f"v1,{b64encode(expected).decode()}"


async def test_a_batch_is_one_request(make: Make, receiver: RawReceiver) -> None:
    """With one id, signed; also where there is but one event."""
    handler = make(secrets=[OLD], batch={"events": 3})
    await handler.deliver([an_event(1), an_event(2)])
    await handler.deliver([an_event(1)])
    assert [len(json.loads(request.body)) for request in receiver.received] == [2, 1]
    for request in receiver.received:
        assert request.headers["content-type"].startswith("application/cloudevents-batch+json")
        verify(OLD, request)


async def test_a_secret_that_is_none_any_more_sends_nothing(make: Make, receiver: RawReceiver) -> None:
    """An unsigned request might cost the event: the receiver would refuse it."""
    current = [OLD.value()]
    handler = make(secrets=[Secret(lambda: current[0])])
    await handler.deliver([EVENT])
    current[0] = "?"
    assert (await failure(handler)).verdict is Verdict.RETRY
    assert len(receiver.received) == 1


async def test_credentials_and_own_headers(make: Make, receiver: RawReceiver) -> None:
    """Each as it is now, where its file has changed."""
    token = ["one"]
    bearer = make(auth={"type": "bearer", "token": Secret(lambda: token[0])}, headers={"X-Tenant": Secret("ä")})
    await bearer.deliver([EVENT])
    token[0] = "two"
    await bearer.deliver([EVENT])
    await make(auth={"type": "basic", "user": "me", "password": Secret("p:w")}).deliver([EVENT])
    await make(headers={"Authorization": Secret("Key k")}).deliver([EVENT])
    sent = [request.headers["authorization"] for request in receiver.received]
    assert sent == ["Bearer one", "Bearer two", f"Basic {b64encode(b'me:p:w').decode()}", "Key k"]
    assert receiver.received[0].headers["x-tenant"] == "ä"


@pytest.mark.parametrize(
    "answer",
    [
        status(200, body=b"thanks"),
        status(201),
        status(202, body=b"x" * 5000),
        status(204),
        status(299),
        saying(b"HTTP/1.1 204 No Content\r\n\r\nand yet a body"),
        saying(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ncut", goes_on=False),
        saying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffzz", goes_on=False),
        saying(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nzip"),
        saying(b"HTTP/1.0 200 OK\r\n\r\nuntil the end", goes_on=False),
        saying(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        dribbling(200),
        Flood(200),
    ],
)
async def test_2xx_is_delivered_whatever_the_body(make: Make, receiver: RawReceiver, answer: Answer) -> None:
    """However its body ends, or whether; and the next delivery finds a connection that is good."""
    handler = make()
    receiver.answer = answer
    await handler.deliver([EVENT])
    receiver.answer = status(204)
    await handler.deliver([EVENT])
    assert len(receiver.received) == 2


@pytest.mark.parametrize("number", [200, 500])
async def test_of_a_large_answer_a_beginning_is_read(make: Make, receiver: RawReceiver, number: int) -> None:
    """The rest of a GiB is dropped with its connection."""
    receiver.answer = flood = Flood(number)
    handler = make()
    if number == 200:
        await handler.deliver([EVENT])
    else:
        assert (await failure(handler)).answer == "x" * 500
    await until(lambda: receiver.open == 0, "for the connection to be closed")
    assert flood.written < FLOOD_BYTES < GIB


MEANINGS = [
    *((number, FailureCause.REFUSED, Verdict.DEAD) for number in (400, 413, 414, 415, 422, 431, 501)),
    (401, FailureCause.UNAUTHORIZED, Verdict.OPEN),
    (403, FailureCause.UNAUTHORIZED, Verdict.OPEN),
    (404, FailureCause.NOT_FOUND, Verdict.OPEN),
    (410, FailureCause.GONE, Verdict.PAUSE),
    (429, FailureCause.THROTTLED, Verdict.RETRY),
    *((number, FailureCause.CLIENT_ERROR, Verdict.RETRY) for number in (402, 405, 407, 408, 409, 425, 451, 499)),
    *((number, FailureCause.SERVER_ERROR, Verdict.RETRY) for number in (500, 502, 503, 504, 529, 599, 600, 999)),
    *((number, FailureCause.REDIRECT, Verdict.RETRY) for number in (300, 301, 302, 303, 304, 307, 308)),
]


@pytest.mark.parametrize(("number", "cause", "verdict"), MEANINGS)
async def test_a_status_means_what_the_contract_says(
    make: Make, receiver: RawReceiver, number: int, cause: FailureCause, verdict: Verdict
) -> None:
    """Its cause and what is done about it; a redirect is not followed, and no cookie is kept."""
    receiver.answer = status(number, f"Location: {receiver.url}/elsewhere", "Set-Cookie: a=b", body=b"no")
    handler = make()
    failed = await failure(handler)
    assert (failed.cause, failed.verdict, failed.status) == (cause, verdict, number)
    assert failed.retry_after is None
    assert str(failed) == f"answered {number}"
    assert failed.answer == ("" if number == 304 else "no")
    assert failed.opens_circuit == (verdict is not Verdict.DEAD)
    await failure(handler)
    assert len(receiver.received) == 2
    assert "cookie" not in receiver.received[1].headers


async def test_an_operator_s_lists_come_first(make: Make, receiver: RawReceiver) -> None:
    """What is in `dead_on` and `pause_on` means that, and what was taken out of them means what it means elsewhere."""
    handler = make(dead_on=[404, 503], pause_on=[401])
    verdicts = {}
    for number in (404, 503, 401, 400, 410):
        receiver.answer = status(number)
        verdicts[number] = (await failure(handler)).verdict
    expected = [Verdict.DEAD, Verdict.DEAD, Verdict.PAUSE, Verdict.RETRY, Verdict.RETRY]
    assert list(verdicts.values()) == expected


@pytest.mark.parametrize("number", [429, 502, 503, 504])
@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("", None),
        ("9" * 5000, 999999999.0),
    ],
)
async def test_a_receiver_may_ask_to_wait(
    make: Make, receiver: RawReceiver, number: int, value: str, seconds: float | None
) -> None:
    """In seconds or until a date; nonsense is no wish."""
    receiver.answer = status(number, f"Retry-After: {value}")
    assert (await failure(make())).retry_after == seconds


async def test_a_date_to_wait_for(make: Make, receiver: RawReceiver) -> None:
    """Counted from now."""
    receiver.answer = status(503, f"Retry-After: {formatdate(time.time() + 3600, usegmt=True)}")
    wait = (await failure(make())).retry_after
    assert wait is not None
    assert 3000 < wait <= 3600


async def test_other_answers_ask_for_nothing(make: Make, receiver: RawReceiver) -> None:
    """Retry-After means something with four statuses."""
    receiver.answer = status(500, "Retry-After: 7")
    assert (await failure(make())).retry_after is None


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (resetting, FailureCause.CONNECTION),
        (saying(b"", goes_on=False), FailureCause.CONNECTION),
        (saying(b"HTTP/1.1 20", goes_on=False), FailureCause.CONNECTION),
        (saying(b"SSH-2.0-OpenSSH\r\n", goes_on=False), FailureCause.CONNECTION),
        (saying(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n", goes_on=False), FailureCause.CONNECTION),
        (saying(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", goes_on=False), FailureCause.CONNECTION),
    ],
)
async def test_no_answer_is_a_failure(make: Make, receiver: RawReceiver, answer: Answer, cause: FailureCause) -> None:
    """Whatever came in its place: it is tried again, and a later answer counts."""
    handler = make()
    receiver.answer = answer
    failed = await failure(handler)
    assert (failed.cause, failed.verdict, failed.status) == (cause, Verdict.RETRY, None)
    receiver.answer = status(204)
    await handler.deliver([EVENT])


async def test_nobody_listens(make: Make) -> None:
    """A refused connection, and a name that does not exist."""
    for url in (f"http://127.0.0.1:{free_port()}/", "http://receiver.invalid/"):
        failed = await failure(make(url=url))
        assert (failed.cause, failed.verdict) == (FailureCause.CONNECTION, Verdict.RETRY)


@pytest.mark.parametrize("answer", [hanging, dribbling(500)])
async def test_a_delivery_can_be_cancelled(make: Make, receiver: RawReceiver, answer: Answer) -> None:
    """The dispatcher bounds it: its connection is closed, and the next delivery has another one."""
    receiver.answer = answer
    handler = make()
    delivering = asyncio.create_task(handler.deliver([EVENT]))
    await until(lambda: len(receiver.received) == 1, "for the request")
    delivering.cancel()
    await asyncio.wait([delivering])
    assert delivering.cancelled() or isinstance(delivering.exception(), DeliveryFailed)
    receiver.answer = status(204)
    await handler.deliver([EVENT])
    await until(lambda: receiver.open == 1, "for the old connection to be closed")


async def test_what_was_delivered_is_not_cancelled(make: Make, receiver: RawReceiver) -> None:
    """Where time is over while the body of a 2xx is being read, the event has arrived, and is not sent again."""
    receiver.answer = dribbling(200)
    handler = make()
    delivery: Any = handler.deliver([EVENT])
    delivering = asyncio.create_task(delivery)
    await until(lambda: getattr(delivery.cr_await, "__name__", "") == "_beginning", "for the body to be read")
    delivering.cancel()
    await delivering


async def test_connections_are_used_again(make: Make, receiver: RawReceiver) -> None:
    """64 deliveries at a time need 64 connections, and thousands no more."""
    handler = make(concurrency=64)
    left = iter(range(2000))

    async def deliver() -> None:
        for number in left:
            receiver.answer = status(200, body=b"ok") if number % 2 else status(503)
            try:
                await handler.deliver([EVENT])
            except DeliveryFailed:
                continue

    await asyncio.gather(*[deliver() for _ in range(64)])
    assert len(receiver.received) == 2000
    assert receiver.connections <= 80


async def test_secrets_of_a_request_are_in_no_failure(make: Make, receiver: RawReceiver) -> None:
    """Neither where the receiver repeats the request in its answer, nor where it cannot be reached."""
    settings = {
        "secrets": [OLD],
        "headers": {"X-Api-Key": Secret("hush-hush-1")},
        "auth": {"type": "basic", "user": "me", "password": Secret("hush-hush-2")},
    }

    async def echoing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        return await status(500, body=receiver.received[-1].head.encode())(reader, writer)

    receiver.answer = echoing
    failed = await failure(make(**settings))
    assert "X-Api-Key" in failed.answer
    shown = f"{failed!r} {failed.answer}"
    receiver.answer = resetting
    shown += repr(await failure(make(**settings)))
    shown += repr(await failure(make(**settings | {"url": f"http://127.0.0.1:{free_port()}/hush-hush-3?hush-hush-4"})))
    assert "hush" not in shown
    assert OLD.value() not in shown
    assert b64encode(b"me:hush-hush-2").decode() not in shown


@asynccontextmanager
async def proxy() -> AsyncIterator[tuple[int, list[str]]]:
    """A proxy that notes what it is asked for, and refuses it."""
    heads: list[str] = []

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(b"HTTP/1.1 407 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(converse, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], heads
    finally:
        server.close()


async def test_proxies_of_the_environment(make: Make, receiver: RawReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTPS_PROXY and HTTP_PROXY are used, with their credentials, and NO_PROXY is obeyed."""
    async with proxy() as (port, heads):
        for name in ("HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, f"http://me:hush@127.0.0.1:{port}")
            monkeypatch.delenv(name.lower(), raising=False)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.delenv("no_proxy", raising=False)
        await make().deliver([EVENT])
        assert len(receiver.received) == 1
        plain = await failure(make(url="http://receiver.invalid/x"))
        tunnel = await failure(make(url="https://receiver.invalid/x"))
    assert heads[0].startswith("POST http://receiver.invalid/x HTTP/1.1\r\n")
    assert heads[1].startswith("CONNECT receiver.invalid:443 HTTP/1.1\r\n")
    assert all(f"Proxy-Authorization: Basic {b64encode(b'me:hush').decode()}\r\n" in head for head in heads)
    assert (plain.cause, tunnel.cause) == (FailureCause.CLIENT_ERROR, FailureCause.CONNECTION)
    assert "hush" not in f"{plain!r}{tunnel!r}"


async def test_our_own_parser_is_used() -> None:
    """Where this fails, aiohttp makes its connections' protocols otherwise than by TCPConnector._factory."""
    connector = make_connector(keep_alive_seconds=1)
    assert isinstance(connector._factory(), HeadFirst)
    await connector.close()
