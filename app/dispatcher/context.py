"""The context of a handler's sessions: limits, counts, and the parts that they use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from random import Random

from app.dispatcher.handler_metrics import HandlerMetrics
from app.dispatcher.time_slice import TimeSlice
from app.settings import HandlerSettings
from ingest.protocols import Cursors, Feed, Handler
from ingest.retrying import Backoff

STORE_AWAY = Backoff(first=0.2, longest=5.0)


@dataclass(frozen=True, slots=True)
class DispatchLimits:
    """Bounds of what one handler has in hand, and the times between what it does again and again.

    `window_events` and `window_bytes` (of data) may be read ahead of the cursor, `read_events` at a time. The cursor
    is saved after `save_seconds` or `save_events`, whichever comes first. Every `round_seconds` parked rows that are
    due are fetched, at most `retry_events`, and gauges refreshed. A stop waits `drain_seconds` for what is in flight.
    Every `look_seconds` it is seen whether a handler's own event loop answers. After a pause of up to
    `remembered_seconds` the work goes on with what is in hand.
    """

    window_events: int = 2_000
    window_bytes: int = 32 * 1024 * 1024
    read_events: int = 256
    save_seconds: float = 0.2
    save_events: int = 1_000
    round_seconds: float = 1.0
    retry_events: int = 500
    drain_seconds: float = 8.0
    look_seconds: float = 0.5
    remembered_seconds: float = 3600.0


@dataclass(slots=True)
class LeftBehind:
    """Calls of a handler's code that never returned, of `bound` that may: each still has a thread or a task."""

    bound: int
    calls: int = 0

    def is_full(self) -> bool:
        """Return whether no more calls can be made."""
        return self.calls >= self.bound


@dataclass(frozen=True, slots=True)
class HandlerContext:
    """The parts that all of a handler's sessions use."""

    label: str
    handler: Handler
    settings: HandlerSettings
    feed: Feed
    cursors: Cursors
    metrics: HandlerMetrics
    time_slice: TimeSlice
    clock: Callable[[], datetime]
    random: Random
    limits: DispatchLimits
    left_behind: LeftBehind
