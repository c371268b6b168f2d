"""A lane: what has to be delivered one after another, and one event's way through it."""

from __future__ import annotations

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
        """What to deliver next."""
        if self.resting:
            return None
        if self.retries:
            return self.retries.popleft()
        if self.parked_to is None and self.queue:
            return self.queue.popleft()
        return None

    def is_idle(self) -> bool:
        """Whether there is nothing to do here, not even to look for parked rows."""
        return self.resting or (self.parked_to is None and not self.queue and not self.retries)

    def is_held_back(self) -> bool:
        """Return whether something is parked here, so that it goes on with that."""
        return self.parked_to is not None or bool(self.retries)

    def hold_back(self, position: int) -> None:
        """The event at `position` is parked: what comes later for the device waits."""
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
        """The row of an event that was not tried, or is being tried right now."""
        return Parked(self.position, self.event.device, 0, None, EPOCH, "")
