"""The requests of an `http` handler: signed, with credentials, through proxies; `standardwebhooks` judges."""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import msgspec
import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from ingest.delivery import FailureCause, Verdict
from ingest.settings.secret import Secret
from tests.support.dispatching import an_event
from tests.support.http_handler import EVENT, Make, failure
from tests.support.raw_receiver import (
    RawReceiver,
    Received,
    resetting,
    status,
)
from tests.support.server import free_port

OLD, NEW = (Secret("whsec_" + b64encode(b"%b secret of a test" % age).decode()) for age in (b"old", b"new"))


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
