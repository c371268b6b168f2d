"""How long a sender may take, in virtual time: heads, bodies, answers and pauses, each to the second."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from app.sender_bounds import Bounds
from app.uvicorn_seams import GuardedProtocol
from tests.support.virtual_time import in_virtual_time

HEAD = b"POST / HTTP/1.1\r\nHost: x\r\n"
WHOLE = HEAD + b"Content-Length: 2\r\n\r\nab"
LONG = HEAD + b"Content-Length: 1000000\r\n\r\n"
BOUNDS = Bounds()


class Wire(asyncio.Transport):
    """A transport that keeps what is written, and a connection on it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.buffered = 0  # bytes that the other side has not taken
        self.reading = True
        self.ended: str | None = None
        self.release = asyncio.Event()  # until then the application reads nothing
        self.release.set()
        config = uvicorn.Config(
            self._answer,
            interface="asgi3",
            proxy_headers=False,
            lifespan="off",
            log_config=None,
            timeout_keep_alive=BOUNDS.idle_seconds,
        )
        config.load()
        self.protocol = GuardedProtocol(config, ServerState(), {}, bounds=BOUNDS)
        self.protocol.connection_made(self)

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        await self.release.wait()
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async def send(self, data: bytes) -> None:
        """Let bytes come, and be looked at."""
        self.protocol.data_received(data)
        for _ in range(5):
            await asyncio.sleep(0)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def get_write_buffer_size(self) -> int:
        return self.buffered

    def is_closing(self) -> bool:
        return self.ended is not None

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def close(self) -> None:
        self.ended = self.ended or "closed"

    def abort(self) -> None:
        self.ended = self.ended or "cut off"


async def until(wire: Wire, ended: str | None, *, after: float) -> None:
    """Nothing happens before `after` seconds; then the connection ends so."""
    await asyncio.sleep(after - 0.01)
    assert wire.ended is None
    await asyncio.sleep(0.02)
    assert wire.ended == ended


@in_virtual_time
async def test_a_connection_that_says_nothing_has_ten_seconds() -> None:
    """Nobody who wants something is silent for so long; a first byte at the last moment starts a head's time."""
    silent, late = Wire(), Wire()
    await asyncio.sleep(BOUNDS.first_seconds - 0.01)
    assert silent.ended is None
    await late.send(b"P")
    await asyncio.sleep(0.02)
    assert silent.ended == "cut off"
    await until(late, "cut off", after=BOUNDS.head_seconds - 0.02)


@pytest.mark.parametrize("sent", [b"P", HEAD, HEAD + b"X-Long: ", WHOLE + HEAD], ids=str)
def test_a_head_has_thirty_seconds(sent: bytes) -> None:
    """However far it came, also behind a request that was answered."""

    @in_virtual_time
    async def test() -> None:
        wire = Wire()
        await wire.send(sent)
        await until(wire, "cut off", after=BOUNDS.head_seconds)

    test()


@in_virtual_time
async def test_a_head_that_drips_has_no_longer() -> None:
    """A line now and then does not prolong it."""
    wire = Wire()
    await wire.send(HEAD)
    for _ in range(9):
        await asyncio.sleep(3)
        await wire.send(b"X-A: b\r\n")
    await until(wire, "cut off", after=3)


@in_virtual_time
async def test_a_body_has_a_time_of_its_own() -> None:
    """It does not pay for a slow head."""
    wire = Wire()
    await wire.send(HEAD)
    await asyncio.sleep(29)
    await wire.send(b"Content-Length: 2\r\n\r\na")
    await asyncio.sleep(29)
    await wire.send(b"b")
    assert wire.written.startswith(b"HTTP/1.1 204")


@in_virtual_time
async def test_a_slow_body_that_advances_is_not_cut() -> None:
    """A sender on a thin line has all the time it needs, as long as 1 KiB comes within 30 seconds."""
    wire = Wire()
    await wire.send(LONG)
    for _ in range(100):
        await asyncio.sleep(29)
        await wire.send(b"x" * 1024)
    assert wire.ended is None


@pytest.mark.parametrize("start", [LONG, HEAD + b"Transfer-Encoding: chunked\r\n\r\n"], ids=["length", "chunked"])
def test_a_body_that_hardly_advances_is_cut(start: bytes) -> None:
    """Less than 1 KiB within 30 seconds keeps nothing open."""

    @in_virtual_time
    async def test() -> None:
        wire = Wire()
        await wire.send(start)
        for _ in range(29):
            await asyncio.sleep(1)
            await wire.send(b"1\r\nx\r\n")
        await until(wire, "cut off", after=1)

    test()


@in_virtual_time
async def test_a_sender_that_is_held_is_not_slow() -> None:
    """While we do not read, it is not the sender who takes the time."""
    wire = Wire()
    wire.release.clear()
    await wire.send(LONG + b"x" * 100_000)
    assert not wire.reading
    await asyncio.sleep(300)
    assert wire.ended is None
    wire.release.set()
    await wire.send(b"")
    assert wire.reading
    await asyncio.sleep(61)
    assert wire.ended == "cut off"


@in_virtual_time
async def test_an_idle_connection_is_closed_after_the_balancers_time() -> None:
    """In good order, and not before the load balancers' 60 seconds."""
    wire = Wire()
    await wire.send(WHOLE)
    await until(wire, "closed", after=BOUNDS.idle_seconds)


@in_virtual_time
async def test_a_request_that_is_answered_late_is_not_slow() -> None:
    """Who has sent everything may wait for the answer however long the store takes."""
    wire = Wire()
    wire.release.clear()
    await wire.send(WHOLE)
    await asyncio.sleep(300)
    wire.release.set()
    await wire.send(b"")
    assert wire.written.startswith(b"HTTP/1.1 204")


@in_virtual_time
async def test_an_answer_that_is_not_taken_is_cut_off() -> None:
    """A reader that takes nothing for 30 seconds is gone; one that takes a little is not."""
    wire = Wire()
    wire.release.clear()  # the next answer is not ready, so the connection is not idle
    await wire.send(WHOLE)
    wire.buffered = 1000
    wire.protocol.pause_writing()
    for _ in range(10):
        await asyncio.sleep(7)
        wire.buffered -= 1
    assert wire.ended is None
    await asyncio.sleep(60)
    assert wire.ended == "cut off"
    wire.protocol.connection_lost(None)
    wire.release.set()
    await asyncio.sleep(1)


@in_virtual_time
async def test_an_answer_that_is_taken_is_not() -> None:
    """Nobody looks any more at a reader that has caught up."""
    wire = Wire()
    wire.release.clear()
    await wire.send(WHOLE)
    wire.buffered = 1000
    wire.protocol.pause_writing()
    await asyncio.sleep(29)
    wire.protocol.resume_writing()
    await asyncio.sleep(300)
    assert wire.ended is None


@in_virtual_time
async def test_idle_is_who_waits_for_its_sender() -> None:
    """Since its connection, its answer, or the beginning of its head or body; not while an answer is due."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    silent, answered, heading, sending, waiting = (Wire() for _ in range(5))
    await asyncio.sleep(3)
    waiting.release.clear()
    for wire, sent in ((answered, WHOLE), (heading, HEAD), (sending, LONG), (waiting, WHOLE)):
        await wire.send(sent)
    await asyncio.sleep(3)

    idle = [wire.protocol.idle for wire in (silent, answered, heading, sending, waiting)]

    then = pytest.approx(began + 3)
    assert idle == [(False, began), (False, then), (False, then), (True, then), None]
    waiting.release.set()
    await waiting.send(b"")
