"""Counts, gauges and log lines of one handler's deliveries."""

from __future__ import annotations

import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from math import inf
from typing import NamedTuple

import structlog

from ingest.deliveries import CircuitState, HandlerLag, Parked
from ingest.delivery import FailureCause
from ingest.event import Event
from ingest.metrics import DELIVERY_OUTCOMES, Metrics

_FRAMES = 20
_TRACEBACK_CHARACTERS = 4000
_QUIET_SECONDS = 60.0  # after a line about a cause: a handler that fails for hours must not fill the log

log = structlog.get_logger(__name__)


class _Example(NamedTuple):
    """One of the deliveries that failed."""

    cause: FailureCause
    row: Parked
    event: Event
    error: BaseException


class HandlerMetrics:
    """Deliveries of one handler since it was last told."""

    def __init__(self, handler: str, metrics: Metrics, time: Callable[[], float] = time.monotonic) -> None:
        self._handler = handler
        self._time = time
        self._said_at: dict[FailureCause, float] = {}
        self._unsaid: Counter[str] = Counter(delivered=0, retried=0, dead=0)
        self._outcomes = {outcome: metrics.deliveries.labels(handler, outcome) for outcome in DELIVERY_OUTCOMES}
        self._failures = {cause: metrics.failures.labels(handler, cause) for cause in FailureCause}
        self._lag_events = metrics.lag_events.labels(handler)
        self._lag_seconds = metrics.lag_seconds.labels(handler)
        self._dead_letters = metrics.dead_letters.labels(handler)
        self._circuit_open = metrics.circuit_open.labels(handler)
        self._paused = metrics.paused.labels(handler)
        self.took = metrics.delivery_seconds.labels(handler).observe
        self.delivered = 0
        self._retried = 0
        self._dead = 0
        self._last: _Example | None = None

    def failed(self, cause: FailureCause, rows: Sequence[Parked], first: Event, error: BaseException) -> None:
        """Count an attempt that failed, and its events as what it leads to: `rows`, of which `first` has the first."""
        dead = sum(row.due_at is None for row in rows)
        self._dead += dead
        self._retried += len(rows) - dead
        self._failures[cause].inc()
        self._last = _Example(cause, rows[0], first, error)

    def count(self) -> None:
        """Add to the counters, and say how many failed: one line a minute and cause with one example, however many."""
        counts = {"delivered": self.delivered, "retried": self._retried, "dead": self._dead}
        self.delivered = self._retried = self._dead = 0
        for outcome, count in counts.items():
            if count:
                self._outcomes[outcome].inc(count)
        self._unsaid.update(counts)
        if (last := self._last) is None or self._time() < self._said_at.get(last.cause, -inf) + _QUIET_SECONDS:
            return
        log.warning("deliveries_failed", handler=self._handler, **self._unsaid, **_shown(last))
        self._last, self._said_at[last.cause] = None, self._time()
        self._unsaid = Counter(dict.fromkeys(self._unsaid, 0))

    def show_lag(self, lag: HandlerLag, now: datetime) -> None:
        """Show how far the handler is."""
        seconds = 0.0 if lag.oldest is None else max(0.0, (now - lag.oldest).total_seconds())
        self._lag_events.set(lag.head - lag.position)
        self._lag_seconds.set(seconds)
        self._dead_letters.set(lag.dead)
        self._circuit_open.set(lag.circuit.state is not CircuitState.CLOSED)
        self._paused.set(lag.pause is not None)

    def stands_down(self) -> None:
        """Leave the gauges to whoever has the cursor now."""
        gauges = (self._lag_events, self._lag_seconds, self._dead_letters, self._circuit_open, self._paused)
        for gauge in gauges:
            gauge.set(0)


def _shown(last: _Example) -> dict[str, object]:
    """Return an example as the log has it, with the traceback where it is the handler's own code that raised."""
    shown: dict[str, object] = {
        "id": str(last.event.id),
        "device": last.event.device,
        "cause": last.cause.value,
        "attempts": last.row.attempts,
        "last_error": last.row.error,
    }
    if last.cause is FailureCause.HANDLER_ERROR and last.error.__traceback__ is not None:
        shown["traceback"] = _traceback_of(last.error)
    return shown


def _traceback_of(error: BaseException) -> str:
    """Return the end of a traceback: the innermost calls, and what was raised."""
    try:
        return "".join(traceback.format_exception(error, limit=-_FRAMES))[-_TRACEBACK_CHARACTERS:]
    except BaseException as broken:  # the error is somebody else's code, and so is what it says of itself
        return f"(it cannot be shown: {type(broken).__name__})"
