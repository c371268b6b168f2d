"""The lanes that wait for a worker: those with new events, and those with parked ones, which get a share."""

from __future__ import annotations

import asyncio
from collections import deque

from app.dispatcher.lane import Lane


class Ready:
    """A queue for `workers`, of whom at most half have lanes with parked events; a single worker has them by turns.

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
