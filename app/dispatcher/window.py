"""Bookkeeping that never waits, of what a handler has in hand: the events read ahead of its cursor, in lanes.

Lanes keep order, the window knows how far the cursor may go, and `rows` is what the next save has to write.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from app.dispatcher.context import DispatchLimits
from app.dispatcher.due_times import DueTimes
from app.dispatcher.lanes import Delivery, Key, Lane, Ready
from app.dispatcher.left_out import LeftOut
from ingest.deliveries import Parked
from ingest.event import Event

Pairs = Sequence[tuple[Parked, Event]]
_NEVER = datetime.max.replace(tzinfo=UTC)


class Checkpoint(NamedTuple):
    """What to save: the cursor's position, and what became of parked rows (None: delivered).

    Of what is passed since the last one, `unmatched` events are not for the handler, and `skipped` are gone.
    """

    position: int
    rows: dict[int, Parked | None]
    unmatched: int = 0
    skipped: int = 0


class Window:
    """The events between the cursor at `position` and what was read.

    `ready` holds the lanes that have something to deliver and none of the `workers` yet. `plenty` is set when there is
    much to save. `due` has the times of what failed here. `had`: what was delivered before the cursor was acquired.
    """

    def __init__(
        self,
        position: int,
        waiting: Iterable[str],
        limits: DispatchLimits,
        *,
        by_device: bool,
        workers: int,
        in_batches: bool = False,
        had: Iterable[int] = (),
    ) -> None:
        self.read_to = position
        self.ready = Ready(workers, in_batches=in_batches)
        self.plenty = asyncio.Event()
        self.closed = False
        self.due = DueTimes()
        self._settled = 0
        self._room = asyncio.Event()
        self._limits = limits
        self._by_device = by_device
        self._ahead: deque[Delivery] = deque()
        self._ahead_bytes = 0
        self._ahead_settled = 0
        self._left_out = LeftOut(had)
        self._rows: dict[int, Parked | None] = {}
        self._held: set[int] = set()
        self._lanes: dict[Key, Lane] = {device: Lane(device, parked_to=position) for device in waiting}

    @property
    def position(self) -> int:
        """Return how far the cursor may go: all up to here is delivered, in `rows`, or not for this handler."""
        return self._ahead[0].position - 1 if self._ahead else self.read_to

    def admit(self, events: Sequence[Event], wants: Callable[[Event], bool] = lambda _event: True) -> None:
        """Take what was read next, one event at least, as far as the handler wants it."""
        read_to = events[-1].position or self.read_to
        for event in self._left_out.select(self.read_to, events, list(filter(wants, events))):
            lane = self._lane(event)
            delivery = Delivery(event, lane)
            self._ahead.append(delivery)
            self._ahead_bytes += delivery.size
            lane.queue.append(delivery)
            if lane.parked_to is None:
                self._wake(lane)
        self.read_to = read_to
        self._pass()
        self.ready.tell_filling()

    def retry(self, pairs: Pairs) -> None:
        """Take parked rows whose time has come, unless they are in hand already."""
        for parked, event in pairs:
            if parked.position not in self._rows and parked.position not in self._held:
                lane = self._lane(event)
                lane.hold_back(parked.position)
                self._hold(lane, parked, event)
                self._wake(lane)

    def refill(self, lane: Lane, pairs: Pairs, now: datetime, saved_to: int, beyond: datetime = _NEVER) -> None:
        """Go on with a device's parked rows, which were read after a save up to `saved_to`.

        Without any its later events flow again; where the first is not due, or not saved yet, the lane rests.
        """
        for parked, event in pairs:
            if parked.due_at is None or now < parked.due_at <= beyond:
                break
            if parked.position not in self._held:
                self._hold(lane, parked, event)
        if not pairs and lane.parked_to is not None and lane.parked_to <= saved_to:
            lane.parked_to = None
        elif not lane.retries:
            self.rest(lane)

    def delivered(self, delivery: Delivery) -> None:
        """Settle a delivery that the handler took."""
        self._settle(delivery)
        if self._ahead and (self._ahead[0].settled or self._is_held_up()):
            self._pass()

    def delivered_together(self, batch: Sequence[Delivery]) -> None:
        """Settle a batch that the handler took, before the cursor passes any of it."""
        for delivery in batch[1:]:
            self._settle(delivery)
        self.delivered(batch[0])

    def failed(self, delivery: Delivery, row: Parked) -> None:
        """Park it as `row` says; unless that is a dead letter, its lane rests and all behind it waits."""
        self._count()
        if row.due_at is not None:
            self.due.add(row.due_at)
            delivery.lane.hold_back(row.position)
            self.rest(delivery.lane)
        if delivery.row is None:
            delivery.settled = True
            delivery.row = row
            self._ahead_settled += 1
            if self._ahead[0] is delivery or self._is_held_up():
                self._pass()
        else:
            self._held.discard(row.position)
            self._rows[row.position] = row

    def has_parked_in_hand(self) -> bool:
        """Return whether a parked event is being delivered, or waits for a worker."""
        return bool(self._held)

    def rest(self, lane: Lane) -> None:
        """Leave a lane alone until its first parked row is due; the rows will be fetched again."""
        lane.resting = True
        while lane.retries:
            self._held.discard(lane.retries.popleft().position)

    def free(self, lane: Lane) -> None:
        """Let go of a lane in which a worker has nothing more to do."""
        lane.busy = lane.resting = False
        if lane.parked_to is None and not lane.queue:
            del self._lanes[lane.key]

    def leave(self, lane: Lane) -> None:
        """Free a lane, or let another worker go on with it."""
        if lane.is_idle():
            self.free(lane)
        else:
            self.ready.put(lane)

    def hold(self) -> None:
        """Deliver nothing, and pass nothing that was not tried, until `go_on`."""
        self.ready.hold()

    def go_on(self) -> None:
        """Deliver again."""
        self.ready.go_on()
        self.due.hurry()
        self._pass()

    def put_back(self, lane: Lane) -> None:
        """Let a lane be the next one again, when lanes are given out."""
        if lane.is_idle():
            self.free(lane)
        else:
            self.ready.put_back(lane)

    def close(self) -> None:
        """Deliver nothing more than what is being delivered."""
        self.closed = True
        self.ready.close()

    def checkpoint(self) -> Checkpoint:
        """Return what to save now."""
        self._pass()
        rows, self._rows = self._rows, {}
        self._settled = 0
        self.plenty.clear()
        self._make_room()
        position = self.position
        return Checkpoint(position, rows, *self._left_out.pass_to(position))

    def give_back(self, unsaved: Checkpoint) -> None:
        """Keep what could not be saved for the next time; what is newer counts."""
        self._rows = unsaved.rows | self._rows
        self._left_out.give_back(unsaved.position, unsaved.unmatched, unsaved.skipped)

    def delivered_ahead(self) -> Sequence[int]:
        """Return what is delivered beyond the position, ascending."""
        settled = [delivery.position for delivery in self._ahead if delivery.settled and delivery.row is None]
        before = self._left_out.had_beyond(self.position)
        return sorted([*settled, *before]) if before else settled

    async def wait_for_room(self) -> None:
        """Return when more may be read."""
        while self.is_full():
            self._room.clear()
            await self._room.wait()

    def _lane(self, event: Event) -> Lane:
        key: Key = event.device if self._by_device and event.device is not None else event.position or 0
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = Lane(key)
        return lane

    def _wake(self, lane: Lane) -> None:
        if not lane.busy:
            lane.busy = True
            self.ready.put(lane)

    def _hold(self, lane: Lane, parked: Parked, event: Event) -> None:
        self._held.add(parked.position)
        lane.retries.append(Delivery(event, lane, parked))

    def _count(self) -> None:
        self._settled += 1
        if self._settled == self._limits.save_events:
            self.plenty.set()

    def _settle(self, delivery: Delivery) -> None:
        self._count()
        if delivery.row is None:
            delivery.settled = True
            self._ahead_settled += 1
        else:
            self._held.discard(delivery.position)
            self._rows[delivery.position] = None

    def _pass(self) -> None:
        """Let the cursor pass what is settled, and what waits in a lane that is held back: that is parked."""
        while self._ahead and self._may_pass(self._ahead[0]):
            first = self._ahead.popleft()
            self._ahead_bytes -= first.size
            self._ahead_settled -= first.settled
            if first.row is not None:
                self._rows[first.position] = first.row
        self._make_room()

    def _may_pass(self, first: Delivery) -> bool:
        lane = first.lane
        if first.settled:
            return True
        if not lane.queue or lane.queue[0] is not first:  # it is being delivered
            return self._is_held_up() and self._spill(first)
        if lane.parked_to is None or self.ready.held:
            return False
        lane.queue.popleft()
        lane.hold_back(first.position)  # a refill that read before this must not let the queue flow again
        first.row = first.waiting()
        self._count()
        return True

    def _spill(self, first: Delivery) -> bool:
        """Park an event while it is being delivered, so that one slow device does not hold up the others."""
        first.row = first.waiting()
        first.lane.hold_back(first.position)
        self._held.add(first.position)
        return True

    def _is_held_up(self) -> bool:
        """Return whether a slow delivery holds up the rest: the window is full of settled events, and work runs out."""
        is_full = 2 * self._ahead_settled > len(self._ahead) and self.is_full()
        return is_full and not self.ready.held and self.ready.is_short()

    def is_full(self) -> bool:
        """Return whether nothing more is read until something is settled and saved."""
        limits = self._limits
        return (
            len(self._ahead) > limits.window_events - limits.read_events
            or self._ahead_bytes > limits.window_bytes
            or len(self._rows) > 2 * limits.window_events
        )

    def _make_room(self) -> None:
        if not self._room.is_set() and not self.is_full():
            self._room.set()
