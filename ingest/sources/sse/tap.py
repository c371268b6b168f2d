"""Watches the reads of a connection: whether its reader waits, and whether more was waiting for it.

The one file that reaches into httpcore, by what it does not document; tests/unit/test_seams.py says what of it moved.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Awaitable, Callable
from fcntl import ioctl
from termios import FIONREAD
from typing import Any, Protocol

import httpcore

BEHIND_BYTES = 64 * 1024  # a smaller backlog fits into any receive buffer: upstream was never stopped

_LATE_SECONDS = 0.05  # a timer that is later than this: the process was suspended, or busy
_ONCE_MORE_SECONDS = 1.0  # for bytes that have come already
_TAIL_BYTES = 64
# The size of an HTTP chunk whose bytes are to come (RFC 9112 §7.1). Behind a frame's end stands an empty line.
_CHUNK_SIZE = re.compile(rb"(?:\A|\n)[0-9A-Fa-f]+[^\r\n]*\r?\n?\Z")


class NetworkStream(Protocol):
    """The part that is used of httpcore's stream, which a response's extensions hold."""

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 - httpcore's
        """Return the next bytes; none at the end. `timeout` in seconds."""
        ...

    def get_extra_info(self, info: str) -> Any:
        """Return, among others, the socket."""
        ...


class Tap:
    """Takes the place of a network stream's `read`. Before each wait for the network it awaits `before`.

    `waiting`: the reader is suspended until bytes come; `reads` counts those that gave bytes.
    `behind_at`: when there last was a backlog, by `clock`, in seconds.
    """

    def __init__(
        self,
        stream: NetworkStream,
        clock: Callable[[], float],
        before: Callable[[], Awaitable[None]],
        after: Callable[[], None],
    ) -> None:
        self._read = stream.read
        self._stream = stream
        self._clock = clock
        self._before = before
        self._after = after
        self._tail = b""
        self.waiting = False
        self.reads = 0
        self.ended = False
        self.behind_at = float("-inf")
        stream.read = self.read  # type: ignore[method-assign]  # httpcore's own way in is private

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 - httpcore's
        """See NetworkStream."""
        await self._before()
        if self._unread() >= BEHIND_BYTES:
            self.behind_at = self._clock()
        self.waiting = True
        try:
            chunk = await self._read_unless_silent(max_bytes, timeout)
        finally:
            self.waiting = False
        self._tail = chunk[-_TAIL_BYTES:] if len(chunk) >= _TAIL_BYTES else (self._tail + chunk)[-_TAIL_BYTES:]
        if chunk:
            self.reads += 1
            self._after()
        else:
            self.ended = True
        return chunk

    async def _read_unless_silent(self, max_bytes: int, timeout: float | None) -> bytes:  # noqa: ASYNC109 - httpcore's
        """Read; where a timeout comes late, nobody ran when bytes may have come, and what lies there is read first."""
        while True:
            asked = self._clock()
            try:
                return await self._read(max_bytes, timeout)
            except httpcore.ReadTimeout:
                if timeout is None or self._clock() - asked <= timeout + _LATE_SECONDS:
                    raise
                timeout = min(timeout, _ONCE_MORE_SECONDS)

    def behind(self, at: float) -> None:
        """Note that there may have been a backlog until `at`."""
        self.behind_at = max(self.behind_at, at)

    def is_drained(self, seconds: float) -> bool:
        """Return whether nothing was waiting to be read for so long before this wait; what comes now is new."""
        return self.waiting and self._clock() - self.behind_at > seconds

    @property
    def in_chunk_size(self) -> bool:
        """Return, where HTTP chunks are used, whether one was announced of which nothing has come."""
        return _CHUNK_SIZE.search(self._tail) is not None

    def _unread(self) -> int:
        """Return how many bytes the kernel holds for us."""
        socket = self._stream.get_extra_info("socket")
        if socket is None:
            return 0
        try:
            unread: int = struct.unpack("i", ioctl(socket.fileno(), FIONREAD, b"\0\0\0\0"))[0]
        except (OSError, ValueError):  # it is closed
            return 0
        return unread
