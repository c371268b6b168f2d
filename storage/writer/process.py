"""The service's end: it starts the process that writes, asks it, and replaces it.

See the room's docstring.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from typing import cast

import structlog

from ingest.errors import HeadraceError, StoreUnavailable
from storage.database import CommitUnanswered, P, T, Work
from storage.sqlite import FileIdentity, translation
from storage.transactions import Transaction, transaction_of, unpack
from storage.writer.messages import LENGTH, Answer, Opening, Question, framed, reader_of

_STOP_SECONDS = 10
_KILL_SECONDS = 1
_START_SECONDS = 60.0  # a busy machine may need some
_SILENCE_SECONDS = 10.0  # longer than SQLite waits for a lock, which it answers
_LOOKS = 10  # within that time: looks count and not seconds, for where we are suspended nobody is silent
_PROGRAM = "from storage.writer.program import main; main()"

_read_answer = reader_of(Answer)

log = structlog.get_logger(__name__)


class WriterFault(Exception):
    """A fault of ours in the process that writes: what was raised there, and its text."""


class WriterProcess:
    """Writer in a process of its own.

    One that dies fails what it was asked and is replaced at the next write. So is one that was asked and has said
    nothing for `silence_seconds`: it is killed, and what it was doing may have been committed or not. `file`: the
    identity of SQLite's, so that no other one is written.
    """

    def __init__(
        self, url: str, file: FileIdentity | None = None, *, silence_seconds: float = _SILENCE_SECONDS
    ) -> None:
        self._opening = Opening(url, file)
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
        answer = await line.ask(asked.name, arguments)
        if answer.error is not None:
            raise _error_of(answer, asked)
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
                self._line = await _Line.open(self._opening, self._silence_seconds)
            return self._line


_GONE = StoreUnavailable.__name__, "the process that writes to the database has ended"


class _Line(asyncio.Protocol):
    """The socket to one process."""

    def __init__(self, process: subprocess.Popen[bytes], silence_seconds: float) -> None:
        self._process = process
        self._silence_seconds = silence_seconds
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._unanswered: dict[int, asyncio.Future[Answer]] = {}
        self._asked = 0
        self._silent_looks = 0  # since it said anything, or was asked where nothing was unanswered
        self._timer: asyncio.TimerHandle | None = None  # while anything is unanswered
        self._received = bytearray()
        self._speaking = asyncio.Event()  # or gone
        self._closed = asyncio.Event()

    @classmethod
    async def open(cls, opening: Opening, silence_seconds: float) -> _Line:
        """Start a process; return when it has said its first word, or will not."""
        ours, theirs = socket.socketpair()
        with theirs:
            # -P: a module of the working directory must not be taken for one of ours.
            command = [sys.executable, "-P", "-c", _PROGRAM, str(theirs.fileno())]
            process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)  # noqa: ASYNC220 - asyncio's own waits for it by a thread or a signal handler
        loop = asyncio.get_running_loop()
        transport, line = await loop.create_connection(lambda: cls(process, silence_seconds), sock=ours)
        transport.write(framed(opening))
        try:
            async with asyncio.timeout(_START_SECONDS):
                await line._speaking.wait()
        except TimeoutError:
            line._kill()
        return line

    @property
    def gone(self) -> bool:
        """True where nobody will answer any more."""
        return self._closed.is_set()

    def ask(self, name: str, arguments: bytes) -> asyncio.Future[Answer]:
        """Send a question; return its answer to come."""
        answer: asyncio.Future[Answer] = self._loop.create_future()
        if self.gone:
            answer.set_result(Answer(0, b"", *_GONE))
            return answer
        assert self._transport is not None  # noqa: S101 - `open` returns a connected line
        self._asked += 1
        self._transport.write(framed(Question(self._asked, name, arguments)))
        if not self._unanswered:
            self._silent_looks = 0
        self._unanswered[self._asked] = answer
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
        self._speaking.set()
        self._silent_looks = 0
        self._received += data
        while len(self._received) >= LENGTH.size:
            end = LENGTH.size + LENGTH.unpack_from(self._received)[0]
            if len(self._received) < end:
                return
            answer = _read_answer(bytes(memoryview(self._received)[LENGTH.size : end]))
            del self._received[:end]
            self._settle(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._speaking.set()
        self._closed.set()
        if self._timer is not None:
            self._timer.cancel()
        for number in list(self._unanswered):
            self._settle(Answer(number, b"", *_GONE))

    def _settle(self, answer: Answer) -> None:
        asked = self._unanswered.pop(answer.number, None)
        if asked is not None and not asked.done():  # or it only lives, or who asked no longer waits
            asked.set_result(answer)


def _error_of(answer: Answer, asked: Transaction) -> Exception:
    """Return the error that the transaction raised: one of ours by its name, or WriterFault."""
    if answer.error == CommitUnanswered.__name__:
        return CommitUnanswered(answer.text, unpack(answer.packed, asked.answer_type))
    kinds = [HeadraceError]
    for kind in kinds:
        if kind.__name__ == answer.error:
            return kind(answer.text)
        kinds += kind.__subclasses__()
    return WriterFault(f"{answer.error}: {answer.text}")
