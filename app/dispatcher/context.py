"""The context of a handler's sessions: limits, counts, and the parts that they use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from random import Random

import structlog

from app.dispatcher.time_slice import TimeSlice
from app.settings import HandlerSettings
from ingest.deliveries import HandlerLag, Parked
from ingest.metrics import DELIVERY_OUTCOMES, Metrics
from ingest.protocols import Cursors, Feed, Handler

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DispatchLimits:
    """Bounds of what one handler has in hand, and the times between what it does again and again.

    `window_events` and `window_bytes` (of data) may be read ahead of the cursor, `read_events` at a time. The cursor
    is saved after `save_seconds` or `save_events`, whichever comes first. Every `round_seconds` parked rows that are
    due are fetched, at most `retry_events`, and gauges refreshed. A stop waits `drain_seconds` for what is in flight.
    Every `look_seconds` it is seen whether a handler's own event loop answers.
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


class HandlerMetrics:
    """Deliveries of one handler since it was last told."""

    def __init__(self, handler: str, metrics: Metrics) -> None:
        self._handler = handler
        self._outcomes = {outcome: metrics.deliveries.labels(handler, outcome) for outcome in DELIVERY_OUTCOMES}
        self._lag_events = metrics.lag_events.labels(handler)
        self._lag_seconds = metrics.lag_seconds.labels(handler)
        self._dead_letters = metrics.dead_letters.labels(handler)
        self.took = metrics.delivery_seconds.labels(handler).observe
        self.delivered = 0
        self._retried = 0
        self._dead = 0
        self._last_error = ""

    def failed(self, row: Parked) -> None:
        """Count a failure as what it leads to."""
        if row.due_at is None:
            self._dead += 1
        else:
            self._retried += 1
        self._last_error = row.error

    def count(self) -> None:
        """Add to the counters, and say how many failed: one line, however many."""
        counts = {"delivered": self.delivered, "retried": self._retried, "dead": self._dead}
        self.delivered = self._retried = self._dead = 0
        for outcome, count in counts.items():
            if count:
                self._outcomes[outcome].inc(count)
        if counts["retried"] or counts["dead"]:
            log.warning("deliveries_failed", handler=self._handler, **counts, last_error=self._last_error)

    def show_lag(self, lag: HandlerLag, now: datetime) -> None:
        """Show how far the handler is."""
        seconds = 0.0 if lag.oldest is None else max(0.0, (now - lag.oldest).total_seconds())
        self._lag_events.set(lag.head - lag.position)
        self._lag_seconds.set(seconds)
        self._dead_letters.set(lag.dead)

    def stands_down(self) -> None:
        """Leave the gauges to whoever has the cursor now."""
        for gauge in (self._lag_events, self._lag_seconds, self._dead_letters):
            gauge.set(0)


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
