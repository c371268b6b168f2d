"""From the threads of Google's client to the event loop, and the order of things at the end.

The client schedules a message's callback in a thread of its own. Nothing waits there: the message is laid down for the
loop. Only the client's shutdown waits, until what the loop has taken is settled, so that its acknowledgements still go
out before the client stops sending them.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any

from google.cloud.pubsub_v1.subscriber.message import Message as Delivery
from google.cloud.pubsub_v1.subscriber.scheduler import Scheduler


class Bridge(Scheduler):
    """The scheduler of one subscription's client. `drain_timeout` is how many seconds its shutdown waits at the most.

    `clock` counts seconds, for the age of what is not settled.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, drain_timeout: float, clock: Callable[[], float]) -> None:
        self._loop = loop
        self._drain_timeout = drain_timeout
        self._clock = clock
        self._requests: queue.Queue[Any] = queue.Queue()  # acknowledgements and the like, for the client to send
        self._changed = threading.Condition()
        self._queued: list[Delivery] = []
        self._queued_since = 0.0
        self._there = asyncio.Event()
        self._closed = False
        self.shutting_down = False  # the client gave up, or was told to
        self._unsettled: dict[Batch, float] = {}
        self.settled_at = clock()  # when something was settled last

    @property
    def queue(self) -> queue.Queue[Any]:
        """See Scheduler."""
        return self._requests

    def schedule(self, callback: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """See Scheduler: called back at once, for `enqueue` is quick."""
        callback(*args, **kwargs)

    def enqueue(self, message: Delivery) -> None:
        """Take a message, as the callback of each, in a thread of the client's."""
        with self._changed:
            self._queued.append(message)
            if len(self._queued) > 1:
                return
            self._queued_since = self._clock()
            if self._closed:
                return
        self._loop.call_soon_threadsafe(self._there.set)

    async def next_batch(self) -> Batch:
        """Return what was laid down since the last time; waits for a first message. Each batch must be `settled`."""
        await self._there.wait()
        self._there.clear()
        with self._changed:
            batch = Batch(() if self._closed or not self._queued else self._queued)
            if batch.messages:
                self._queued = []
                self._unsettled[batch] = self._queued_since
        return batch

    def settled(self, batch: Batch, count: int) -> None:
        """Note that everything is known of so many more of its messages: their outcomes, their acknowledgements.

        Any thread.
        """
        with self._changed:
            batch.unsettled -= count
            self.settled_at = self._clock()
            if batch.unsettled == 0:
                self._unsettled.pop(batch, None)
                self._changed.notify_all()

    def close(self) -> None:
        """Take nothing more: what was laid down and not taken goes back to the queue when the client stops."""
        with self._changed:
            self._closed = True

    def age(self) -> float:
        """Return how many seconds the oldest message that is not settled has been here; 0.0 where there is none."""
        with self._changed:
            began = next(iter(self._unsettled.values()), self._queued_since if self._queued else None)
        return 0.0 if began is None else self._clock() - began

    def shutdown(self, await_msg_callbacks: bool = False) -> list[Delivery]:
        """See Scheduler: the client has stopped receiving, and sends what is in `queue` until this returns.

        Returns what was never taken, which the client then gives back (nack).
        """
        self.close()
        self.shutting_down = True
        with self._changed:
            self._changed.wait_for(lambda: not self._unsettled, self._drain_timeout)
            back, self._queued = self._queued, []
        return back


class Batch:
    """Messages that were taken together."""

    __slots__ = ("messages", "unsettled")

    def __init__(self, messages: Sequence[Delivery]) -> None:
        self.messages = messages
        self.unsettled = len(messages)
