"""Lanes: what has to be delivered one after another, and which of them wait for a worker."""

from __future__ import annotations

import asyncio
from collections import deque

from ingest.deliveries import Parked
from ingest.event import Event
from ingest.times import EPOCH

# A device; or the position of an event for which no order is promised, alone in its lane.
Key = str | int


class Lane:
    """A device's events in order of commit: `retries` (parked rows in hand) go before `queue` (read from the feed).

    `parked_to` is the last position that was parked here, None while nothing is: until then the queue is held back.
    `busy` lanes have a worker, or wait for one; a lane is `resting` while its worker has to leave it alone.
    """

    __slots__ = ("busy", "key", "parked_to", "queue", "resting", "retries")

    def __init__(self, key: Key, parked_to: int | None = None) -> None:
        self.key = key
        self.parked_to = parked_to
        self.queue: deque[Delivery] = deque()
        self.retries: deque[Delivery] = deque()
        self.busy = False
        self.resting = False

    def take(self) -> Delivery | None:
        """Remove and return what to deliver next; None where there is nothing, or the lane rests."""
        if self.resting:
            return None
        if self.retries:
            return self.retries.popleft()
        if self.parked_to is None and self.queue:
            return self.queue.popleft()
        return None

    def is_idle(self) -> bool:
        """Return whether there is nothing to do here, not even to look for parked rows."""
        return self.resting or (self.parked_to is None and not self.queue and not self.retries)

    def is_held_back(self) -> bool:
        """Return whether something is parked here, so that it goes on with that."""
        return self.parked_to is not None or bool(self.retries)

    def hold_back(self, position: int) -> None:
        """Note that the event at `position` is parked: what comes later for the device waits."""
        if isinstance(self.key, str):
            self.parked_to = max(self.parked_to or 0, position)


class Delivery:
    """One event on its way to the handler. `row` is its parked row, None while the cursor has not passed it."""

    __slots__ = ("event", "lane", "position", "row", "settled", "size")

    def __init__(self, event: Event, lane: Lane, row: Parked | None = None) -> None:
        self.event = event
        self.lane = lane
        self.row = row
        self.position = event.position or 0
        self.size = len(event.data) if event.data else 0
        self.settled = False

    def waiting(self) -> Parked:
        """Return the row of an event that was not tried, or is being tried right now."""
        return Parked(self.position, self.event.device, 0, None, EPOCH, "")


class Ready:
    """The lanes that wait for a worker. At most half of `workers` have lanes with parked events; a single one by turns.

    What failed before is likely to fail again, maybe by its whole timeout; new events must not wait behind that.
    """

    def __init__(self, workers: int) -> None:
        self._share = max(1, workers // 2)
        self._new: deque[Lane] = deque()
        self._parked: deque[Lane] = deque()
        self._trying_again: set[Lane] = set()
        self._parked_next = False
        self._idle: deque[asyncio.Future[None]] = deque()
        self._closed = False

    def put(self, lane: Lane) -> None:
        """Put a lane last in its line."""
        (self._parked if lane.is_held_back() else self._new).append(lane)
        self._wake()

    async def get(self) -> Lane | None:
        """Return the next lane for a worker, who has to `release` it; None when closed."""
        while not self._closed:
            lane = self.get_nowait()
            if lane is not None:
                return lane
            idle = asyncio.get_running_loop().create_future()
            self._idle.append(idle)
            try:
                await idle
            except asyncio.CancelledError:
                if not idle.cancelled():
                    self._wake()
                raise
        return None

    def get_nowait(self) -> Lane | None:
        """As `get`, None where there is no lane that may be worked at."""
        if self._parked and len(self._trying_again) < self._share and (self._parked_next or not self._new):
            lane = self._parked.popleft()
            self._trying_again.add(lane)
            self._parked_next = False
            return lane
        self._parked_next = True
        return self._new.popleft() if self._new else None

    def release(self, lane: Lane) -> None:
        """Tell that a worker has left a lane."""
        if lane in self._trying_again:
            self._trying_again.remove(lane)
            if self._parked:
                self._wake()

    def close(self) -> None:
        """Let every `get` return None."""
        self._closed = True
        while self._idle:
            self._wake()

    def _wake(self) -> None:
        while self._idle:
            idle = self._idle.popleft()
            if not idle.done():
                idle.set_result(None)
                return
