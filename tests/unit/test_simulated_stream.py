"""The demo's event stream: what it sends, and how it fails."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

from app.simulator.device import Device, Published
from app.simulator.fleet import Fleet
from app.simulator.stream import ProductStream, Troubles
from ingest.event import Event, Mode, Origin
from ingest.formats.particle import ParticleFormat
from tests.support.raw_client import RawClient, listening

NOON = datetime(2026, 7, 28, 12, tzinfo=UTC)
NEVER = Troubles(first_seconds=3600)
FRAME = re.compile(rb"event: (?P<name>[^\n]+)\ndata: \{(?P<rest>[^\n]+)\n\n")


@asynccontextmanager
async def served(stream: ProductStream) -> AsyncIterator[None]:
    """The stream runs inside the block."""
    task = asyncio.create_task(stream.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def event_of(body: bytes, headers: dict[str, str], mode: Mode) -> Event:
    """The one event that a body holds."""
    (record,) = ParticleFormat(Origin("demo", "demo", mode), []).decode(body, headers, NOON)
    assert isinstance(record, Event)
    return record


async def test_events_are_those_of_the_webhooks() -> None:
    """What the stream says of an event is the same event as the webhook's, whatever it holds and however it is sent."""
    for device in (Device(1, 1), Device(9, 1)):
        for published in (device.publish(NOON) for _ in range(50)):
            frame = FRAME.fullmatch(published.frame())
            assert frame is not None
            streamed = event_of(b'{"event":"' + frame["name"] + b'",' + frame["rest"], {}, "sse")
            hook = published.hook()
            hooked = event_of(hook.body, dict(hook.headers), "webhook")
            assert streamed.id == hooked.id
            assert streamed.attributes["fw_version"] in {"87", "91", "92"}


async def test_every_connection_is_given_every_event() -> None:
    """Two clients see the same frames; another path is no stream."""
    stream = ProductStream("demo", troubles=NEVER, keep_alive_seconds=3600)
    device = Device(1, 1)
    async with served(stream), listening(stream.url) as one, listening(stream.url) as other:
        for client in (one, other):
            await client.read_until(b"\n\n\n")
        published = device.publish(NOON)
        stream.send(published)
        assert [await client.read_until(b"}\n\n") for client in (one, other)] == [published.frame()] * 2
        async with listening(stream.url + "/x") as lost:
            assert lost.status == 404


async def test_it_keeps_alive_with_bare_newlines() -> None:
    """As Particle does: neither comments nor events."""
    stream = ProductStream("demo", troubles=NEVER, keep_alive_seconds=0.01)
    async with served(stream), listening(stream.url) as client:
        await client.read_until(b"\n\n\n")
        assert [await client.read_until(b"\n") for _ in range(3)] == [b"\n"] * 3


async def test_streams_stall_and_are_cut_in_turns() -> None:
    """First nothing comes any more and the connection stays; then one ends within an event; then it stalls again."""
    stream = ProductStream("my product", troubles=Troubles(0.1, 0.2), keep_alive_seconds=0.01)
    device = Device(1, 1)
    assert "/v1/products/my%20product/events" in stream.url
    async with served(stream), asyncio.timeout(20):
        for _ in range(2):
            async with listening(stream.url) as client:
                await until_silent(client)
            assert await until_cut(stream, device)


async def until_silent(client: RawClient) -> None:
    """Return when keep-alives stop coming. Raises EOFError if the stream ends."""
    while True:
        try:
            await asyncio.wait_for(client.read_until(b"\n"), 0.1)
        except TimeoutError:
            return


async def until_cut(stream: ProductStream, device: Device) -> bool:
    """Publish until a stream ends, and return whether that was within an event; one that stalls is left for another."""
    while True:
        async with listening(stream.url) as client:
            await client.read_until(b"\n\n\n")
            try:
                async with asyncio.timeout(0.2):
                    while True:
                        stream.send(device.publish(NOON))
                        await client.read_until(b"}\n\n")
            except EOFError:
                return b"event: " in client.body
            except TimeoutError:
                continue


async def test_the_fleet_publishes_to_both() -> None:
    """Each event of a device goes to the stream, whether or not the webhook's server is there."""
    seen: list[Published] = []
    done = asyncio.Event()

    def note(published: Published) -> None:
        seen.append(published)
        if len(seen) > 20:
            done.set()

    fleet = Fleet("http://127.0.0.1:9/ingest/demo", {}, devices=30, events_per_second=1000.0, elsewhere=[note])
    running = asyncio.create_task(fleet.run())
    await asyncio.wait_for(done.wait(), 20)
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    assert len({published.device for published in seen}) > 10


def test_the_port_is_known_before_it_runs() -> None:
    """Settings can name the address of a stream that is yet to be served, and two have two ports."""
    one, other = ProductStream("demo"), ProductStream("demo")
    assert one.url != other.url
    one.close()
    other.close()
