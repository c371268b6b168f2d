"""The bounds of a sender, and the timer of one that takes nothing of its answers."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bounds:
    """The time that a sender may take.

    A connection has `first_seconds` for its first byte. A head has `head_seconds` and `head_bytes`. A body has to bring
    `progress_bytes` in each `progress_seconds`, or its end; an answer has to be taken by some bytes in as long. A
    connection that had an answer stays for `idle_seconds`: longer than with the usual load balancers (60 s), so that it
    is they who close it.
    """

    first_seconds: float = 10.0
    head_seconds: float = 30.0
    head_bytes: int = 64 * 1024
    progress_seconds: float = 30.0
    progress_bytes: int = 1024
    idle_seconds: int = 75


class UntakenAnswer:
    """An answer that waits for its sender, which is cut off when it takes nothing of it for `seconds`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport, seconds: float) -> None:
        self._loop = loop
        self._transport = transport
        self._seconds = seconds
        self._look_later()

    def taken(self) -> None:
        """Wait no more: the sender keeps up again."""
        self._timer.cancel()

    def _look_later(self) -> None:
        size = self._transport.get_write_buffer_size()
        self._timer = self._loop.call_later(self._seconds, self._look, size)

    def _look(self, size: int) -> None:
        if self._transport.get_write_buffer_size() >= size:
            self._transport.abort()
        else:
            self._look_later()
