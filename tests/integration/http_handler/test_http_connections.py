"""The connections of an `http` handler: used again, and left when a delivery is."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ingest.delivery import DeliveryFailed, FailureCause, Verdict
from tests.support.dispatching import until
from tests.support.http_handler import EVENT, Make, failure
from tests.support.raw_receiver import (
    Answer,
    RawReceiver,
    dribbling,
    hanging,
    status,
)
from tests.support.server import free_port


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


def awaited_by(coroutine: Any) -> list[str]:
    """Return the names of the coroutines in which one waits, the innermost last."""
    names = []
    while (coroutine := getattr(coroutine, "cr_await", None)) is not None:
        names.append(getattr(coroutine, "__name__", ""))
    return names


async def test_what_was_delivered_is_not_cancelled(make: Make, receiver: RawReceiver) -> None:
    """Where time is over while the body of a 2xx is being read, the event has arrived, and is not sent again."""
    receiver.answer = dribbling(200)
    handler = make()
    delivery: Any = handler.deliver([EVENT])
    delivering = asyncio.create_task(delivery)
    await until(lambda: "read" in awaited_by(delivery), "for the body to be read")
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
