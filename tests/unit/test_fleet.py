"""The simulated fleet: what it sends, and how it bears a server that is busy or away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, MutableMapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

import uvicorn

from app.simulator.device import Device
from app.simulator.fleet import Fleet
from app.simulator.mischief import bad_bodies
from ingest.event import Event, Origin, Reject
from ingest.formats.particle import ParticleFormat
from tests.support.server import free_port

NOON = datetime(2026, 7, 28, 12, tzinfo=UTC)
PATIENCE_SECONDS = 20
KINDS = {"spark/status", "temperature", "camera/thumbnail", "form: temperature", "hook-sent/temperature", ""}
BAD = {b"", b"temperature 21.5", b'"just a string"'}


class Receiver:
    """An HTTP server that keeps every body and answers the first `busy` requests with 503."""

    def __init__(self, busy: int = 0) -> None:
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.names: set[str | None] = set()
        self.copies = 0
        self._seen: set[bytes] = set()
        self.port = free_port()
        self._busy = busy
        self._arrived = asyncio.Event()

    @property
    def url(self) -> str:
        """Where the fleet posts to."""
        return f"http://127.0.0.1:{self.port}/ingest/demo"

    async def wait_for(self, condition: Callable[[], bool]) -> None:
        """Return as soon as what has arrived fulfils the condition."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not condition():
                self._arrived.clear()
                await self._arrived.wait()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """It listens inside the block."""
        config = uvicorn.Config(
            self,
            host="127.0.0.1",
            port=self.port,
            log_config=None,
            lifespan="off",
            timeout_graceful_shutdown=1,  # a connection that came while it shut down is never told to close
        )
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve())
        try:
            yield
        finally:
            server.should_exit = True
            await task

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        """ASGI."""
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        self.copies += body in self._seen
        self._seen.add(body)
        self.bodies.append(body)
        self.names.add(name_in(body))
        self.headers.append({name.decode(): value.decode() for name, value in scope["headers"]})
        status = 503 if len(self.bodies) <= self._busy else 204
        await send({"type": "http.response.start", "status": status, "headers": [(b"retry-after", b"0")]})
        await send({"type": "http.response.body"})
        self._arrived.set()


def name_in(body: bytes) -> str | None:
    """The event name in a webhook body; None where it cannot be read."""
    with suppress(ValueError, KeyError):
        if body.startswith(b"event="):
            return "form: " + parse_qs(body.decode())["event"][0]
        fields = json.loads(body)
        return str(fields["event"]) if isinstance(fields, dict) else None
    return None


@asynccontextmanager
async def running(fleet: Fleet) -> AsyncIterator[asyncio.Task[None]]:
    """The fleet posts inside the block."""
    task = asyncio.create_task(fleet.run())
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_the_fleet_sends_events_copies_and_every_kind_of_mischief() -> None:
    """Half a minute of a fleet, sped up: events as JSON and form, binary data, copies, echoes, bad bodies."""
    receiver = Receiver()
    fleet = Fleet(receiver.url, {"x-key": "s"}, devices=10, events_per_second=1000.0)
    async with receiver.serving(), running(fleet):
        await receiver.wait_for(lambda: receiver.names >= KINDS and receiver.copies > 0)
        await receiver.wait_for(lambda: set(receiver.bodies) >= BAD)
    assert all(headers["x-key"] == "s" for headers in receiver.headers)


async def test_a_busy_server_gets_the_same_body_again() -> None:
    """503 is answered as the cloud does: the same bytes once more, a little later."""
    receiver = Receiver(busy=1)
    async with receiver.serving(), running(Fleet(receiver.url, {}, devices=1, events_per_second=100.0)):
        await receiver.wait_for(lambda: receiver.bodies[1:].count(receiver.bodies[0]) > 0 if receiver.bodies else False)


async def test_the_fleet_outlives_a_server_that_is_away() -> None:
    """Posting begins by itself when the server comes back."""
    receiver = Receiver()
    async with running(Fleet(receiver.url, {}, devices=5, events_per_second=200.0)) as task:
        async with receiver.serving():
            await receiver.wait_for(lambda: len(receiver.bodies) > 20)
        seen = len(receiver.bodies)
        async with receiver.serving():
            await receiver.wait_for(lambda: len(receiver.bodies) > seen + 20)
        assert not task.done()


def test_a_seed_makes_the_same_fleet_again() -> None:
    """Two devices of one number and seed publish the same bodies; another seed is another device."""
    bodies = [
        [device.publish(NOON).hook().body for _ in range(200)] for device in (Device(9, 1), Device(9, 1), Device(9, 2))
    ]
    assert bodies[0] == bodies[1] != bodies[2]
    assert parse_qs(bodies[0][0].decode())["published_at"] == ["2026-07-28T12:00:00.000Z"]


def test_each_bad_body_is_counted_for_its_own_reason() -> None:
    """A newcomer sees what each kind of fault is called."""
    particle = ParticleFormat(Origin("demo", "demo", "webhook"), ["hook-sent/", "hook-response/"])
    hooks = [hook for hook in bad_bodies("e00fce68", NOON) if "content-encoding" not in hook.headers]
    records = [record for hook in hooks for record in particle.decode(hook.body, hook.headers, NOON)]
    reasons = [record.reason for record in records if isinstance(record, Reject)]
    assert len(reasons) == len(set(reasons)) == 12
    assert sum(isinstance(record, Event) for record in records) == 1
