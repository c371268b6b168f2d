"""Lanes: what has to be delivered one after another, and which of them wait for a worker."""

from __future__ import annotations

import asyncio
from collections import deque

from ingest.deliveries import Parked
from ingest.event import Event
from ingest.retrying import wait_at_most
from ingest.times import EPOCH

# A device; or the position of an event for which no order is promised, alone in its lane.
Key = str | int
_NOTHING: deque[Delivery] = deque()


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

    def fill(self, batch: list[Delivery], most: int) -> None:
        """Add what follows what was taken here, up to `most` in the batch; what failed before is delivered alone."""
        line = self._line()
        while line and len(batch) < most and not line[0].has_failed():
            batch.append(line.popleft())

    def first(self) -> Delivery | None:
        """Return what `take` would remove."""
        line = self._line()
        return line[0] if line else None

    def _line(self) -> deque[Delivery]:
        return _NOTHING if self.resting else self.retries or (self.queue if self.parked_to is None else _NOTHING)

    def put_back(self, delivery: Delivery) -> None:
        """Let what was taken from the queue be the next one again."""
        self.queue.appendleft(delivery)

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

    def has_failed(self) -> bool:
        """Return whether it was tried before."""
        return self.row is not None and self.row.attempts > 0

    def waiting(self) -> Parked:
        """Return the row of an event that was not tried, or is being tried right now."""
        return Parked(self.position, self.event.device, 0, None, EPOCH, "")


class Ready:
    """The lanes that wait for a worker. At most half of `workers` have lanes with parked events; a single one by turns.

    What failed before is likely to fail again, maybe by its whole timeout; new events must not wait behind that.
    `in_batches`: one worker at a time fills a batch, and has all the lanes with new events until it is `filled`.
    While it is held all lanes wait, but for one that is `let_through`.
    """

    def __init__(self, workers: int, *, in_batches: bool = False) -> None:
        self._workers = workers
        self._share = max(1, workers // 2)
        self._new: deque[Lane] = deque()
        self._parked: deque[Lane] = deque()
        self._trying_again: set[Lane] = set()
        self._parked_next = False
        self._idle: deque[asyncio.Future[None]] = deque()
        self._in_batches = in_batches
        self._filling: Lane | None = None  # the first lane of the batch that is being filled
        self._more = asyncio.Event()
        self._closed = False
        self.held = False
        self._let_through: Lane | None = None
        self._taken_in_vain: list[Lane] = []

    def is_short(self) -> bool:
        """Return whether fewer lanes with new events wait than there are workers."""
        return len(self._new) < self._workers

    def hold(self) -> None:
        """Give out no lane until `go_on`."""
        self.held = True
        self._more.set()

    def go_on(self) -> None:
        """Give out lanes again."""
        self.held = False
        self._restore()
        lane, self._let_through = self._let_through, None
        if lane is not None:
            self.put(lane)
        for _ in range(min(len(self._idle), len(self._new) + len(self._parked))):
            self._wake()

    def let_through(self, lane: Lane) -> None:
        """Give out a lane that waits nowhere, though all others are held."""
        self._let_through = lane
        self._wake()

    def take_newest(self) -> Lane | None:
        """Remove and return the lane that begins with the newest event, a failed one only where there is no other."""
        self._restore()
        firsts = [first for lane in (*self._new, *self._parked) if (first := lane.first()) is not None]
        return self._take(max(firsts, key=lambda first: (not first.has_failed(), first.position), default=None))

    def take_oldest_parked(self) -> Lane | None:
        """Remove and return the lane with the oldest parked event that is in hand."""
        self._restore()
        firsts = [first for lane in self._parked if (first := lane.first()) is not None]
        return self._take(min(firsts, key=lambda first: first.position, default=None))

    def _take(self, first: Delivery | None) -> Lane | None:
        if first is None:
            return None
        (self._parked if first.lane in self._parked else self._new).remove(first.lane)
        return first.lane

    def put_back(self, lane: Lane) -> None:
        """Put a lane back where it was in its line: it was taken just before all were held."""
        self._taken_in_vain.append(lane)

    def _restore(self) -> None:
        while self._taken_in_vain:
            lane = self._taken_in_vain.pop()
            (self._parked if lane.is_held_back() else self._new).appendleft(lane)

    def put(self, lane: Lane) -> None:
        """Put a lane last in its line."""
        if lane.is_held_back():
            self._parked.append(lane)
            self._wake()
        else:
            self._new.append(lane)
            self._wake_for_new()

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
        if self.held:
            return self._take_let_through()
        if self._parked and len(self._trying_again) < self._share and (self._parked_next or not self._new):
            lane = self._parked.popleft()
            self._trying_again.add(lane)
            self._parked_next = False
            return lane
        self._parked_next = True
        if not self._new or self._filling is not None:
            return None
        lane = self._new.popleft()
        if self._in_batches:
            self._filling = lane
        return lane

    def get_new_nowait(self) -> Lane | None:
        """Return a lane to fill a batch from, with nothing parked in it; None where there is none."""
        while self._new:
            lane = self._new.popleft()
            if not lane.is_held_back():
                return lane
            self.put(lane)  # something was parked in it since
        return None

    def _take_let_through(self) -> Lane | None:
        lane, self._let_through = self._let_through, None
        if lane is not None and lane.is_held_back():
            self._trying_again.add(lane)
        return lane

    async def wait_for_new(self, seconds: float) -> None:
        """Return when there may be more for a batch, at the latest after so many seconds, or when closed."""
        self._more.clear()
        await wait_at_most(self._more, seconds)

    def filled(self, lane: Lane) -> None:
        """Let another worker fill a batch, where one that began with this lane was being filled."""
        if self._filling is lane:
            self._filling = None
            self._wake_for_new()

    def tell_filling(self) -> None:
        """Tell the worker that fills a batch to look into its lanes."""
        self._more.set()

    def release(self, lane: Lane) -> None:
        """Tell that a worker has left a lane."""
        if lane in self._trying_again:
            self._trying_again.remove(lane)
            if self._parked:
                self._wake()

    def close(self) -> None:
        """Let every `get` return None."""
        self._closed = True
        self._more.set()
        while self._idle:
            self._wake()

    def _wake_for_new(self) -> None:
        if self._filling is not None:
            self._more.set()
        elif self._new:
            self._wake()

    def _wake(self) -> None:
        while self._idle:
            idle = self._idle.popleft()
            if not idle.done():
                idle.set_result(None)
                return
