"""What the tap tells of a connection's reads."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from ingest.sources.sse.tap import BEHIND_BYTES, Tap


class Wire:
    """A network stream on one end of a pair of sockets; `waits` returns when its read has begun to wait."""

    def __init__(self) -> None:
        self.socket, self.other = socket.socketpair()
        self.socket.setblocking(False)

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 - httpcore's
        """See NetworkStream."""
        return await asyncio.get_running_loop().sock_recv(self.socket, max_bytes)

    def get_extra_info(self, info: str) -> object:
        """See NetworkStream."""
        return self.socket if info == "socket" else None


@pytest.fixture
def wire() -> Iterator[Wire]:
    """A connection."""
    wire = Wire()
    yield wire
    wire.socket.close()
    wire.other.close()


def tapped(wire: Wire, now: list[float]) -> Tap:
    """A tap on it by a clock that the test sets."""

    async def before() -> None:
        return None

    return Tap(wire, lambda: now[0], before, lambda: None)


async def test_waiting_and_counting(wire: Wire) -> None:
    """While the reader is suspended it waits; when bytes came, or the end, it does not."""
    now = [10.0]
    tap = tapped(wire, now)
    assert not tap.waiting
    reading = asyncio.create_task(wire.read(100))  # the tap has taken its place
    await asyncio.sleep(0)
    assert tap.waiting
    wire.other.send(b"\n")
    assert await reading == b"\n"
    assert (tap.waiting, tap.reads, tap.ended) == (False, 1, False)
    wire.other.close()
    assert await wire.read(100) == b""
    assert (tap.reads, tap.ended) == (1, True)


async def test_a_backlog_is_remembered_for_a_while(wire: Wire) -> None:
    """While upstream may still be catching up, an empty socket does not mean that all has come."""
    now = [10.0]
    wire.other.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * BEHIND_BYTES)
    tap = tapped(wire, now)
    wire.other.sendall(bytes(BEHIND_BYTES))
    read = 0
    while read < BEHIND_BYTES:
        read += len(await wire.read(BEHIND_BYTES))
    assert tap.behind_at == 10.0
    reading = asyncio.create_task(wire.read(100))
    await asyncio.sleep(0)
    assert tap.waiting
    assert not tap.is_drained(0.2)
    now[0] = 10.3
    assert tap.is_drained(0.2)
    wire.other.send(b"\n")
    await reading


@pytest.mark.parametrize(
    ("tail", "in_size"),
    [
        (b"1f4\r\n", True),
        (b"data: x\n\n\r\n1", True),
        (b"data: x\n\n\r\n1f4;name=value\r", True),
        (b"data: x\n\n", False),
        (b"data: x\n\n\r\n", False),
        (b"data: x\r\n\r\n\r\n", False),
        (b"1\r\n\n", False),
        (b"1\r\n\n\r\n", False),
        (b"0\r\n\r\n", False),
        (b":ok\n\r\n", False),
    ],
)
@pytest.mark.parametrize("pieces", [1, 100])
async def test_a_chunk_that_was_announced_shows(wire: Wire, tail: bytes, in_size: bool, pieces: int) -> None:
    """When the size of an HTTP chunk has come, an event of upstream's has begun to come."""
    tap = tapped(wire, [0.0])
    size = -(-len(tail) // pieces)
    for start in range(0, len(tail), size):
        wire.other.send(tail[start : start + size])
        await wire.read(100)
    assert tap.in_chunk_size is in_size


async def test_a_socket_that_is_gone_holds_nothing(wire: Wire) -> None:
    """Asking it is no fault."""
    tap = tapped(wire, [0.0])
    wire.socket.close()
    with pytest.raises(OSError, match="descriptor"):
        await wire.read(100)
    assert tap.behind_at == float("-inf")
