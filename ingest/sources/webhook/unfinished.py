"""Request bodies of which a part has come and is kept: together they are bounded, and the oldest gives way."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class NoRoom(Exception):
    """The body cannot be kept until its end: its sender is told to send it again."""


class UnfinishedBody:
    """One of them. `task` reads it."""

    __slots__ = ("bytes", "is_evicted", "task")

    def __init__(self, task: asyncio.Task[object] | None) -> None:
        self.task = task
        self.bytes = 0
        self.is_evicted = False


class UnfinishedBodies:
    """Holds at most `max_bytes`, of all senders together.

    A body that is on its way is finished sooner than one that was begun before it and is not: so strangers who never
    finish theirs take no room from others.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._bytes = 0
        self._bodies: dict[UnfinishedBody, None] = {}  # in the order in which they were begun

    @contextmanager
    def keep(self) -> Iterator[UnfinishedBody]:
        """Keep a body that the current task reads inside of this. Raises NoRoom where it had to give way."""
        body = UnfinishedBody(asyncio.current_task())
        self._bodies[body] = None
        try:
            yield body
        except asyncio.CancelledError:
            if not body.is_evicted or body.task is None:
                raise
            body.task.uncancel()  # it was us
            raise NoRoom from None
        finally:
            self._forget(body)

    def resize(self, body: UnfinishedBody, size: int) -> None:
        """Note that so many bytes of the body are kept now. Raises NoRoom where it is itself the oldest."""
        self._bytes += size - body.bytes
        body.bytes = size
        while self._bytes > self.max_bytes:
            oldest = next(iter(self._bodies))
            self._forget(oldest)
            if oldest is body or oldest.task is None:
                raise NoRoom
            oldest.is_evicted = True
            oldest.task.cancel()

    def _forget(self, body: UnfinishedBody) -> None:
        if body in self._bodies:
            del self._bodies[body]
            self._bytes -= body.bytes
