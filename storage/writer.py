"""The process that writes to SQLite, so that commits and the event loop do not wait for one interpreter lock.

The service sends a pickled function of a Connection; the process runs it in a transaction and sends back what it
returned. Only our own process is at the other end of the socket. It ends when that one is gone. One that answers
nothing for a while, stopped or before a disk that hangs, is killed and replaced.
"""

from __future__ import annotations

import asyncio
import pickle
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct
from typing import Any, cast

import structlog
from sqlalchemy import URL, make_url

from ingest.errors import StoreUnavailable
from storage.database import P, T, Work
from storage.sqlite import FileIdentity, WritingConnection, identity_of

_LENGTH = Struct("<I")
_STOP_SECONDS = 10
_KILL_SECONDS = 1
_SILENCE_SECONDS = 10.0  # longer than SQLite waits for a lock, which it answers
_LOOKS = 10  # within that time: looks count and not seconds, for where we are suspended nobody is silent
_PROGRAM = "from storage.writer import main; main()"

_Transaction = tuple[Callable[..., object], tuple[Any, ...], dict[str, Any]]

log = structlog.get_logger(__name__)


class WriterProcess:
    """Writer in a process of its own.

    One that dies fails what it was asked and is replaced at the next write. So is one that was asked and has answered
    nothing for `silence_seconds`: it is killed, and what it was doing may have been committed or not.
    """

    def __init__(self, url: URL, silence_seconds: float = _SILENCE_SECONDS) -> None:
        self._url = url
        self._file = identity_of(url.database or "")
        self._silence_seconds = silence_seconds
        self._line: _Line | None = None
        self._starting = asyncio.Lock()

    async def run(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See Writer. `work`, what it is given and what it returns have to be picklable."""
        line = self._line
        if line is None or line.gone:
            line = await self._start()
        return cast("T", await line.ask((work, args, kwargs)))

    async def close(self) -> None:
        """Let what was asked be answered, and the process end."""
        if self._line is not None:
            await self._line.close()

    async def _start(self) -> _Line:
        async with self._starting:
            if self._line is not None and self._line.gone:
                await self._line.close()
                self._line = None
            if self._line is None:
                self._line = await _Line.open(self._url, self._file, self._silence_seconds)
            return self._line


@dataclass(frozen=True, slots=True)
class _Failure:
    """The answer of a transaction that changed nothing."""

    error: Exception


class _Line(asyncio.Protocol):
    """The socket to one process; answers come in the order of the questions."""

    def __init__(self, process: subprocess.Popen[bytes], silence_seconds: float) -> None:
        self._process = process
        self._silence_seconds = silence_seconds
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._unanswered: deque[asyncio.Future[object]] = deque()
        self._silent_looks = 0  # since the oldest question became the next to be answered
        self._timer: asyncio.TimerHandle | None = None  # while anything is unanswered
        self._received = bytearray()
        self._closed = asyncio.Event()

    @classmethod
    async def open(cls, url: URL, file: FileIdentity | None, silence_seconds: float) -> _Line:
        """Start a process and connect to it."""
        ours, theirs = socket.socketpair()
        with theirs:
            address = url.render_as_string(hide_password=False)
            # -P: a module of the working directory must not be taken for one of ours.
            # Not -m: what it pickles must belong to the module of this name.
            command = [sys.executable, "-P", "-c", _PROGRAM, str(theirs.fileno()), address, *map(str, file or ())]
            process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)  # noqa: ASYNC220 - asyncio's own waits for it by a thread or a signal handler
        loop = asyncio.get_running_loop()
        _, line = await loop.create_connection(lambda: cls(process, silence_seconds), sock=ours)
        return line

    @property
    def gone(self) -> bool:
        """Whether nobody will answer any more."""
        return self._closed.is_set()

    def ask(self, transaction: _Transaction) -> asyncio.Future[object]:
        """The answer to come."""
        answer: asyncio.Future[object] = self._loop.create_future()
        assert self._transport is not None  # noqa: S101 - `open` returns a connected line
        question = pickle.dumps(transaction, pickle.HIGHEST_PROTOCOL)
        self._transport.write(_LENGTH.pack(len(question)) + question)
        if not self._unanswered:
            self._silent_looks = 0
        self._unanswered.append(answer)
        if self._timer is None:
            self._look_later()
        return answer

    async def close(self) -> None:
        """Half-close: the process answers what it was asked, and ends. One that does not is killed."""
        if self._transport is not None and not self.gone:
            self._transport.write_eof()
        if not await self._ends_within(_STOP_SECONDS):
            self._kill()
            await self._ends_within(_KILL_SECONDS)  # before a disk that hangs it lives on until that answers
        await self._closed.wait()

    async def _ends_within(self, seconds: float) -> bool:
        try:
            await asyncio.to_thread(self._process.wait, seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _kill(self) -> None:
        self._process.kill()
        if self._transport is not None:
            self._transport.abort()

    def _look_later(self) -> None:
        self._timer = self._loop.call_later(self._silence_seconds / _LOOKS, self._look)

    def _look(self) -> None:
        """Kill a process that should have answered by now."""
        self._timer = None
        if not self._unanswered:
            return
        self._silent_looks += 1
        if self._silent_looks <= _LOOKS:
            self._look_later()
            return
        log.error("writer_killed", silent_seconds=self._silence_seconds, unanswered=len(self._unanswered))
        self._kill()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        self._silent_looks = 0
        self._received += data
        while len(self._received) >= _LENGTH.size:
            end = _LENGTH.size + _LENGTH.unpack_from(self._received)[0]
            if len(self._received) < end:
                return
            outcome = pickle.loads(memoryview(self._received)[_LENGTH.size : end])  # noqa: S301 - our own process
            del self._received[:end]
            self._settle(outcome)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._closed.set()
        if self._timer is not None:
            self._timer.cancel()
        while self._unanswered:
            self._settle(_Failure(StoreUnavailable("the process that writes to the database has ended")))

    def _settle(self, outcome: object) -> None:
        answer = self._unanswered.popleft()
        if answer.done():  # who asked no longer waits
            return
        if isinstance(outcome, _Failure):
            answer.set_exception(outcome.error)
        else:
            answer.set_result(outcome)


def serve(connection: WritingConnection, line: socket.socket) -> None:
    """Answer until the other end is closed."""
    with line, line.makefile("rb", buffering=1 << 18) as questions:
        while head := questions.read(_LENGTH.size):
            question = questions.read(_LENGTH.unpack(head)[0])
            answer = pickle.dumps(_answer(connection, question), pickle.HIGHEST_PROTOCOL)
            line.sendall(_LENGTH.pack(len(answer)) + answer)


def _answer(connection: WritingConnection, question: bytes) -> object:
    try:
        work, args, kwargs = pickle.loads(question)  # noqa: S301 - our own process asks
        return connection.run(work, *args, **kwargs)
    except Exception as error:  # whatever it is, who asked has to hear it
        return _Failure(error)


def main() -> None:
    """Serve the socket and the database that the command line names, with the identity of its file."""
    for stop in (signal.SIGINT, signal.SIGTERM):  # the service decides: it has records to drain first
        signal.signal(stop, signal.SIG_IGN)
    line, address, *file = sys.argv[1:]
    connection = WritingConnection(make_url(address), (int(file[0]), int(file[1])) if file else None)
    serve(connection, socket.socket(fileno=int(line)))
    connection.close()
