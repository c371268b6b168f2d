"""Whatever upstream does: an event that was sent and not stored lies outside of what we say we heard."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass, field
from typing import cast

import pytest

from ingest.times import elapsed
from tests.support.sse_rig import SseRig, hasty, sse_rig
from tests.support.sse_upstream import CHUNKED, PLAIN, an_answer, frame

_BUFFER_BYTES = 20_000  # what upstream holds for a client that does not read; what is more it drops
_RESET = struct.pack("ii", 1, 0)


class Client(asyncio.Protocol):
    """One connection as upstream sees it. Told of an event it writes, drops, or has long forgotten us."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._asked = b""
        self._chunked = bus.random.random() < 0.5
        self.stalled = False
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's does not say that it is one

    def data_received(self, data: bytes) -> None:
        """The request; from its end on the client is told everything."""
        self._asked += data
        if self._asked.endswith(b"\r\n\r\n") and self.transport is not None:
            if self._bus.refusals:
                self.transport.write(self._bus.refusals.pop())
                self.transport.close()
            else:
                self.transport.write(CHUNKED if self._chunked else PLAIN)
                self._bus.clients.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        with suppress(ValueError):
            self._bus.clients.remove(self)

    def tell(self, text: bytes) -> None:
        """Write, unless the client is stalled or too slow."""
        if self.transport is None or self.stalled or self.transport.get_write_buffer_size() > _BUFFER_BYTES:
            return
        self.transport.write(b"%x\r\n%b\r\n" % (len(text), text) if self._chunked else text)

    def begin(self, text: bytes) -> None:
        """Write the beginning of what never comes."""
        if self.transport is not None and not self.stalled:
            self.transport.write(b"%x\r\n%b" % (len(text), text[:20]) if self._chunked else text[:20])
        self.stalled = True

    def reset(self) -> None:
        """Break off."""
        if self.transport is not None:
            with suppress(OSError, ValueError, AttributeError):
                self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.transport.abort()

    def end(self) -> None:
        """End in good order, or nearly so."""
        if self.transport is not None:
            if self._chunked and not self.stalled and self._bus.random.random() < 0.5:
                self.transport.write(b"0\r\n\r\n")
            self.transport.close()


@dataclass
class Bus:
    """Publishes numbered events to whoever listens, and remembers when."""

    random: random.Random
    clients: list[Client] = field(default_factory=list)
    refusals: list[bytes] = field(default_factory=list)
    sent_at: dict[int, float] = field(default_factory=dict)
    port: int = 0
    server: asyncio.Server | None = None

    async def listen(self) -> None:
        """Take connections, always on the same port."""
        loop = asyncio.get_running_loop()
        self.server = await loop.create_server(lambda: Client(self), "127.0.0.1", self.port, reuse_address=True)
        self.port = self.server.sockets[0].getsockname()[1]

    async def publish(self) -> None:
        """An event every few milliseconds, now and then many at once, and keep-alives, until cancelled."""
        while True:
            for _ in range(300 if self.random.random() < 0.01 else 1):
                number = len(self.sent_at)
                self.sent_at[number] = elapsed()
                self.tell(frame("temp", number))
            if self.random.random() < 0.1:
                self.tell(b"\n")
            await asyncio.sleep(self.random.choice([0.0, 0.002, 0.005, 0.02]))

    def tell(self, text: bytes) -> None:
        """Everybody hears it, or does not."""
        for client in list(self.clients):
            client.tell(text)

    async def say(self, text: bytes) -> None:
        """As `tell`."""
        self.tell(text)

    async def misbehave(self) -> None:
        """One fault, on the first stream."""
        client = self.clients[0] if self.clients else None
        fault = self.random.choice(["reset", "end", "stall", "half", "refuse"])
        if client is None:
            return
        if fault == "stall":
            client.stalled = True
        elif fault == "half":
            client.begin(frame("temp", -1))
            await asyncio.sleep(0.05)
            if self.random.random() < 0.5:
                client.reset()
        elif fault == "end":
            client.end()
        else:
            self.refusals += [an_answer("500 Oops")] * (2 if fault == "refuse" else 0)
            client.reset()

    async def go_away(self) -> None:
        """For a while nobody can connect."""
        assert self.server is not None
        self.server.close()
        for client in list(self.clients):
            client.reset()
        await asyncio.sleep(0.1)
        await self.listen()


async def store_away(rig: SseRig, seconds: float) -> None:
    """For a while nothing can be committed, and no coverage written."""
    rig.store.close_gate()
    rig.coverage.away = True
    await asyncio.sleep(seconds)
    rig.store.open_gate()
    rig.coverage.away = False


def heard(rig: SseRig, at: float) -> bool:
    """Whether we say that we listened at that instant."""
    return any(interval.since <= at <= interval.until for interval in rig.coverage.intervals)


async def suffer(seed: int, *, faults: int) -> tuple[SseRig, Bus]:
    """A schedule of faults, and what came of it."""
    bus = Bus(random.Random(seed))
    await bus.listen()
    publishing = asyncio.create_task(bus.publish())
    try:
        rules = hasty(f"http://127.0.0.1:{bus.port}/events", idle=0.15)
        async with sse_rig(rules, max_events=60) as rig:
            for _ in range(faults):
                await asyncio.sleep(bus.random.choice([0.02, 0.08, 0.2]))
                kind = bus.random.random()
                if kind < 0.1:
                    await bus.go_away()
                elif kind < 0.4:  # the longer one is more than the inbox has room for
                    await store_away(rig, bus.random.choice([0.05, 0.5]))
                else:
                    await bus.misbehave()
            await rig.until(lambda: len(bus.clients) == 1 and not any(client.stalled for client in bus.clients))
            last = len(bus.sent_at) + 20
            await rig.until(lambda: max(rig.numbers) >= last)  # a fresh event flows
            publishing.cancel()
            await asyncio.gather(publishing, return_exceptions=True)
            proven = rig.clock()
            await rig.until_proven(
                bus.say, lambda: any(interval.until >= proven for interval in rig.coverage.intervals)
            )
            return rig, bus
    finally:
        publishing.cancel()
        assert bus.server is not None
        bus.server.close()
        for client in list(bus.clients):
            client.reset()


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_what_is_lost_is_outside_of_what_was_heard(seed: int) -> None:
    """Every event that was sent is stored, or was sent at an instant that no interval covers."""
    rig, bus = await suffer(seed, faults=12)
    missing = sorted(set(bus.sent_at) - set(rig.numbers))
    assert [number for number in missing if heard(rig, bus.sent_at[number])] == []
