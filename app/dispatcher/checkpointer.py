"""A handler's position in the store: saves what its window settled, and brings back what was parked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from app.dispatcher.lanes import Lane
from app.dispatcher.window import Window
from ingest.deliveries import LEASE_SECONDS, Seen
from ingest.protocols import Cursor
from ingest.retrying import wait_at_most
from storage.runs import Run, runs_of

_RENEW_SECONDS = LEASE_SECONDS / 3
_SURE_SECONDS = LEASE_SECONDS * 0.8  # an answer took a while, and the database's clock may run faster than ours
_BEHIND_EVENTS = 100
_LANES_TOGETHER = 32
_LOOK_SECONDS = 0.5
_NEVER = datetime.max.replace(tzinfo=UTC)
_AHEAD_SECONDS = 0.2  # it looks through the whole window, and where saves are frequent the cursor moves on anyway


class Checkpointer:
    """The cursor of a window. `seen` is the last event that was read, wanted or not.

    All methods that wait raise StoreUnavailable, LeaseLost and StoreRewound. What could not be saved then is saved by
    the next call that succeeds; where only the answer to a commit was lost, once more.

    The lease counts from the loop time at which it was asked for, at first `asked_at`: the answer may have come late.
    Nothing is due later than `longest` from now, unless the clock was put back since; then it is due.
    """

    def __init__(
        self,
        cursor: Cursor,
        window: Window,
        clock: Callable[[], datetime],
        *,
        asked_at: float,
        by_device: bool,
        longest: timedelta,
    ) -> None:
        self.seen: Seen | None = None
        self._cursor = cursor
        self._window = window
        self._clock = clock
        self._by_device = by_device
        self._longest = longest
        self._time = asyncio.get_running_loop().time
        self._saved_at = asked_at
        self._saved = asyncio.Event()
        self._ahead: Sequence[Run] = ()
        self._saved_ahead: Sequence[Run] = ()
        self._looked_ahead_at = asked_at
        # What is just being saved must not be read as it was before: it would be delivered once more.
        self._one_at_a_time = asyncio.Lock()
        self._asking: list[Lane] = []

    async def save(self) -> None:
        """Save how far the window is, and renew the lease in time where there is nothing to save."""
        async with self._one_at_a_time:
            await self._save()

    async def fetch_due(self, limit: int) -> bool:
        """Take parked rows whose time has come into the window; return whether there may be more."""
        async with self._one_at_a_time:
            await self._save()
            now = self._clock()
            pairs = await self._cursor.due(now, limit, by_device=self._by_device, beyond=now + self._longest)
            self._window.retry(pairs)
        return len(pairs) == limit

    async def fetch_first(self) -> None:
        """Take the parked row that is due first into the window, also where that is not yet."""
        async with self._one_at_a_time:
            await self._save()
            self._window.retry(await self._cursor.due(_NEVER, 1, by_device=self._by_device))

    async def refill(self, lane: Lane) -> None:
        """Take what is parked next in a device's lane into the window; lanes that ask at one time are read together."""
        self._asking.append(lane)
        async with self._one_at_a_time:
            if lane not in self._asking:
                return
            lanes, self._asking = self._asking[:_LANES_TOGETHER], self._asking[_LANES_TOGETHER:]
            try:
                await self._refill(lanes)
            except BaseException:  # the others ask for themselves, in the order in which they wait
                self._asking[:0] = [other for other in lanes if other is not lane]
                raise

    def is_sure(self, now: float) -> bool:
        """Return whether nobody else can hold the cursor yet, at loop time `now`."""
        return now < self._saved_at + _SURE_SECONDS

    async def wait_until_sure(self) -> None:
        """Return when the lease was renewed, or the window is closed."""
        while not self._window.closed and not self.is_sure(self._time()):
            self._saved.clear()
            await wait_at_most(self._saved, _LOOK_SECONDS)

    async def _refill(self, lanes: Sequence[Lane]) -> None:
        await self._save()
        found = await self._cursor.behind([str(lane.key) for lane in lanes], _BEHIND_EVENTS)
        now = self._clock()
        for lane in lanes:
            pairs = found[str(lane.key)]
            self._window.refill(lane, pairs, now, self._cursor.position, beyond=now + self._longest)

    async def _save(self) -> None:
        asked = self._time()
        unsaved = self._window.checkpoint()
        position, rows = unsaved.position, unsaved.rows
        ahead = self._runs_ahead(position, asked)
        is_news = rows or position != self._cursor.position or ahead != self._saved_ahead
        if not is_news and asked < self._saved_at + _RENEW_SECONDS:
            return
        parked = [row for row in rows.values() if row is not None]
        delivered = [at for at, row in rows.items() if row is None]
        counts = {"unmatched": unsaved.unmatched, "skipped": unsaved.skipped}
        try:
            await self._cursor.advance(position, parked, delivered, seen=self.seen, ahead=ahead, **counts)
        except BaseException:  # also when cancelled: the next save writes the same once more
            self._window.give_back(unsaved)
            raise
        self._saved_at, self._saved_ahead = asked, ahead
        self._saved.set()

    def _runs_ahead(self, position: int, now: float) -> Sequence[Run]:
        """Return what was delivered beyond the position when it was last looked for."""
        if now >= self._looked_ahead_at + _AHEAD_SECONDS or self._window.closed:
            self._looked_ahead_at = now
            self._ahead = runs_of(self._window.delivered_ahead())
        return [(max(first, position + 1), last) for first, last in self._ahead if last > position]
