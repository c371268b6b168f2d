"""Clients that hold conversations: one socket each, reading all the time, whatever becomes of the writing."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable, Sequence

from tests.support.conversations.answers import AnswerReader, NotHttp
from tests.support.conversations.values import AwaitAnswers, Conversation, End, Ended, Heard, Write

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class _Silent(Exception):
    """Nothing came for as long as the client waits."""


class _Client:
    """One connection. Not a stream of asyncio: that one stops reading where writing fails, and loses answers."""

    def __init__(self, conversation: Conversation, patience_seconds: float) -> None:
        self._conversation = conversation
        self._patience = patience_seconds
        self._loop = asyncio.get_running_loop()
        self._socket = socket.socket()
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        methods = [*(request.method for request in conversation.requests), conversation.probe.method]
        self._reader = AnswerReader(lambda number: methods[min(number, len(methods) - 1)])
        self._news = asyncio.Condition()
        self._closed = False
        self._fault: str | None = None

    async def hold(self, port: int) -> Heard:
        """Hold the conversation with whoever listens on the port."""
        await self._loop.sock_connect(self._socket, ("127.0.0.1", port))
        reading = asyncio.create_task(self._read())
        probed = False
        try:
            await self._play()
            ended, probed = await self._finish()
        except _Silent:
            ended, probed = Ended.SILENT, len(self._reader.answers) == len(self._conversation.requests)
        finally:
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reading
            self._socket.close()
        answers = tuple(self._reader.answers)
        probe = None
        if probed and len(answers) > len(self._conversation.requests):
            *first, probe = answers
            answers = tuple(first)
        return Heard(answers, ended, frozenset(self._reader.continued), probed, probe, self._fault)

    async def _play(self) -> None:
        for step in self._conversation.steps:
            if self._over():
                return
            if isinstance(step, Write):
                await self._write(step.piece)
            else:
                await self._wait(step)

    async def _finish(self) -> tuple[Ended, bool]:
        """How it ended, and whether a probe was sent."""
        match self._conversation.end:
            case End.HANG_UP:
                self._hang_up()
                return Ended.LEFT, False
            case End.HALF_CLOSE:
                with contextlib.suppress(OSError):
                    self._socket.shutdown(socket.SHUT_WR)
                await self._wait_closed()
                return Ended.CLOSED, False
            case End.STAY:
                return await self._probe()

    async def _probe(self) -> tuple[Ended, bool]:
        asked = len(self._conversation.requests)
        await self._wait(AwaitAnswers(asked))
        if self._over() or self._says_close():
            await self._wait_closed()
            return Ended.CLOSED, False
        await self._write(self._conversation.probe.raw)
        await self._wait(AwaitAnswers(asked + 1))
        alive = len(self._reader.answers) > asked
        return (Ended.ALIVE if alive else Ended.CLOSED), True

    async def _write(self, piece: bytes) -> None:
        with contextlib.suppress(OSError):  # the server closed; what it said before is still read
            async with asyncio.timeout(self._patience):
                await self._loop.sock_sendall(self._socket, piece)
        await asyncio.sleep(0)  # the others' turn, so that the next piece comes by itself

    async def _wait(self, step: AwaitAnswers) -> None:
        def come() -> bool:
            continued = step.or_continue and step.count - 1 in self._reader.continued
            return len(self._reader.answers) >= step.count or continued or self._over() or self._says_close()

        await self._wait_for(come)

    async def _wait_closed(self) -> None:
        await self._wait_for(self._over)

    async def _wait_for(self, condition: Callable[[], bool]) -> None:
        async with self._news:
            try:
                async with asyncio.timeout(self._patience):
                    await self._news.wait_for(condition)
            except TimeoutError:
                raise _Silent from None

    async def _read(self) -> None:
        while not self._over():
            try:
                data = await self._loop.sock_recv(self._socket, 1 << 16)
            except OSError:
                data = b""
            try:
                self._reader.feed(data) if data else self._reader.end()
            except NotHttp as error:
                self._fault = str(error)
            self._closed = not data
            async with self._news:
                self._news.notify_all()

    def _over(self) -> bool:
        return self._closed or self._fault is not None

    def _says_close(self) -> bool:
        return bool(self._reader.answers) and self._reader.answers[-1].closes

    def _hang_up(self) -> None:
        """Close in good order or, every second time, with a reset."""
        if self._conversation.index % 2:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)


async def hold_all(
    conversations: Sequence[Conversation], port: int, *, clients: int, patience_seconds: float
) -> list[Heard]:
    """Hold them all, so many at a time; what each client heard, in order."""
    heard: dict[int, Heard] = {}
    waiting = iter(list(enumerate(conversations)))

    async def work() -> None:
        for number, conversation in waiting:
            heard[number] = await _Client(conversation, patience_seconds).hold(port)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(clients):
            tasks.create_task(work())
    return [heard[number] for number in range(len(conversations))]
