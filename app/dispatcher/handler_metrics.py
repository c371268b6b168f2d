"""What one handler did, counted in passing and told to metrics and log in batches: both cost more than a delivery."""

from __future__ import annotations

from datetime import datetime

import structlog

from ingest.deliveries import HandlerLag, Parked
from ingest.metrics import DELIVERY_OUTCOMES, Metrics

log = structlog.get_logger(__name__)


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
