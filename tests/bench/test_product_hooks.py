"""The bench sends what the vendor sends, whichever program sends it."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from datetime import UTC, datetime

from ingest.event import Event, Origin
from ingest.formats.particle import ParticleFormat
from tests.bench.load import PATH, SCRIPT
from tests.bench.product_hooks import DEVICES, SENDERS, ProductHooks
from tests.support.required import missing

_STARTED = 1_800_000_000
_COUNT = 10_050  # more than a second of the events' time


async def test_wrk_sends_the_same_bytes() -> None:
    """The script for wrk and the driver make the same requests, byte for byte."""
    if shutil.which("wrk") is None:
        missing("no wrk")
    received: list[bytes] = []
    enough = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(EOFError, ConnectionError), contextlib.closing(writer):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                received.append(head + await reader.readexactly(int(head.rpartition(b":")[2])))
                writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
                if len(received) == _COUNT:
                    enough.set()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}{PATH}"
    options = ["-t1", "-c1", "-d60s", "-s", str(SCRIPT), url, "--", "same", str(_STARTED)]
    wrk = await asyncio.create_subprocess_exec("wrk", *options, stdout=asyncio.subprocess.DEVNULL)
    try:
        async with asyncio.timeout(60):
            await enough.wait()
    finally:
        wrk.kill()
        await wrk.wait()
        server.close()
    hooks = ProductHooks(url, "same", datetime.fromtimestamp(_STARTED, UTC))
    for number, request in enumerate(received[:_COUNT], start=1):  # wrk keeps the first to itself
        assert request == hooks.request(number)


def test_a_hook_is_an_event_with_attributes() -> None:
    """What is sent becomes an event of its own, with the attributes that the vendor adds; a device has one sender."""
    hooks = ProductHooks("http://127.0.0.1:8000/ingest/fleet", "some", datetime.now(UTC))
    particle = ParticleFormat(Origin("fleet", "fleet", "webhook"), [])
    now = datetime.now(UTC)
    events = [event for number in range(2 * DEVICES) for event in particle.decode(hooks.body(number), {}, now)]
    assert all(isinstance(event, Event) for event in events)
    stored = [event for event in events if isinstance(event, Event)]
    assert len({event.id for event in stored}) == 2 * DEVICES
    assert all(event.attributes.keys() == {"userid", "fw_version", "public"} for event in stored)
    senders = {hooks.request(number).split(b"\r\n")[2] for number in range(2 * DEVICES)}
    assert len(senders) == SENDERS
    assert hooks.request(0).split(b"\r\n")[2] == hooks.request(DEVICES).split(b"\r\n")[2]
