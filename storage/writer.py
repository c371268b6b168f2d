"""The process that writes to SQLite, so that commits and the event loop do not wait for one interpreter lock.

The service sends the name of a transaction (storage.transactions) and its arguments; the process runs it and sends
back what it returned. It ends when the service is gone. One that answers nothing for a while, stopped or before a disk
that hangs, is killed and replaced.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
from collections import deque
from struct import Struct
from typing import cast

import msgspec
import structlog
from sqlalchemy import URL, make_url

from ingest.errors import HeadraceError, StoreUnavailable
from storage.database import P, T, Work
from storage.sqlite import FileIdentity, WritingConnection, identity_of, translation
from storage.transactions import pack, transaction_named, transaction_of, unpack

_LENGTH = Struct("<I")
_STOP_SECONDS = 10
_KILL_SECONDS = 1
_SILENCE_SECONDS = 10.0  # longer than SQLite waits for a lock, which it answers
_LOOKS = 10  # within that time: looks count and not seconds, for where we are suspended nobody is silent
_PROGRAM = "from storage.writer import main; main()"


class _Question(msgspec.Struct, array_like=True):
    """A transaction's name and its packed arguments."""

    name: str
    arguments: bytes


class _Answer(msgspec.Struct, array_like=True):
    """The packed answer to it; or the name of the error that it raised, and its text."""

    packed: bytes
    error: str | None = None
    text: str = ""


_to_bytes = msgspec.msgpack.Encoder().encode
_read_question = msgspec.msgpack.Decoder(_Question).decode
_read_answer = msgspec.msgpack.Decoder(_Answer).decode

log = structlog.get_logger(__name__)


class WriterFault(Exception):
    """A fault of ours in the process that writes: what was raised there, and its text."""


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
        """See Writer. Raises LookupError where `work` is not marked as a transaction, and WriterFault."""
        asked = transaction_of(work)
        with translation():
            arguments = asked.pack_arguments(args, kwargs)
        line = self._line
        if line is None or line.gone:
            line = await self._start()
        answer = await line.ask(_Question(asked.name, arguments))
        if answer.error is not None:
            raise _error_of(answer)
        return cast("T", unpack(answer.packed, asked.answer_type))

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


_GONE = _Answer(b"", StoreUnavailable.__name__, "the process that writes to the database has ended")


class _Line(asyncio.Protocol):
    """The socket to one process; answers come in the order of the questions."""

    def __init__(self, process: subprocess.Popen[bytes], silence_seconds: float) -> None:
        self._process = process
        self._silence_seconds = silence_seconds
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._unanswered: deque[asyncio.Future[_Answer]] = deque()
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
            command = [sys.executable, "-P", "-c", _PROGRAM, str(theirs.fileno()), address, *map(str, file or ())]
            process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)  # noqa: ASYNC220 - asyncio's own waits for it by a thread or a signal handler
        loop = asyncio.get_running_loop()
        _, line = await loop.create_connection(lambda: cls(process, silence_seconds), sock=ours)
        return line

    @property
    def gone(self) -> bool:
        """True where nobody will answer any more."""
        return self._closed.is_set()

    def ask(self, question: _Question) -> asyncio.Future[_Answer]:
        """Send a question; return its answer to come."""
        answer: asyncio.Future[_Answer] = self._loop.create_future()
        assert self._transport is not None  # noqa: S101 - `open` returns a connected line
        self._transport.write(_framed(question))
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
            answer = _read_answer(bytes(memoryview(self._received)[_LENGTH.size : end]))
            del self._received[:end]
            self._settle(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._closed.set()
        if self._timer is not None:
            self._timer.cancel()
        while self._unanswered:
            self._settle(_GONE)

    def _settle(self, answer: _Answer) -> None:
        asked = self._unanswered.popleft()
        if not asked.done():  # or who asked no longer waits
            asked.set_result(answer)


def _framed(message: _Question | _Answer) -> bytes:
    """Return a message behind its length."""
    data = _to_bytes(message)
    return _LENGTH.pack(len(data)) + data


def _error_of(answer: _Answer) -> Exception:
    """Return the error that the transaction raised: one of ours by its name, or WriterFault."""
    kinds = [HeadraceError]
    for kind in kinds:
        if kind.__name__ == answer.error:
            return kind(answer.text)
        kinds += kind.__subclasses__()
    return WriterFault(f"{answer.error}: {answer.text}")


def answer_all(connection: WritingConnection, line: socket.socket) -> None:
    """Answer until the other end is closed."""
    with line, line.makefile("rb", buffering=1 << 18) as questions:
        while head := questions.read(_LENGTH.size):
            question = _read_question(questions.read(_LENGTH.unpack(head)[0]))
            line.sendall(_framed(_answer(connection, question)))


def _answer(connection: WritingConnection, question: _Question) -> _Answer:
    try:
        asked = transaction_named(question.name)
        return _Answer(pack(connection.run(asked.run, *unpack(question.arguments, asked.argument_types))))
    except Exception as error:  # whatever it is, who asked has to hear it
        return _Answer(b"", type(error).__name__, str(error))


def main() -> None:
    """Serve the socket and the database that the command line names, with the identity of its file."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # the service decides: it has records to drain first
        signal.signal(number, signal.SIG_IGN)
    line, address, *file = sys.argv[1:]
    connection = WritingConnection(make_url(address), (int(file[0]), int(file[1])) if file else None)
    answer_all(connection, socket.socket(fileno=int(line)))
    connection.close()
