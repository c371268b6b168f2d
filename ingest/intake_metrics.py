"""The counters of one source and mode: every arrival once, and every outcome once."""

from __future__ import annotations

from collections.abc import Sequence

from ingest.event import DUPLICATES, Event, Mode, Outcome, Reason, Record, Reject
from ingest.metrics import Metrics


class IntakeMetrics:
    """Counts so that at any moment received = stored + duplicate + rejected + ignored + deferred + in flight."""

    def __init__(self, metrics: Metrics, source: str, mode: Mode) -> None:
        labels = (source, mode.value)
        metrics.declare_source(*labels)
        metrics.in_flight.labels(*labels).set_function(lambda: self._in_flight)
        self._in_flight = 0
        self._count_received = metrics.received.labels(*labels).inc
        self._count = {
            Outcome.STORED: metrics.stored.labels(*labels).inc,
            Outcome.IGNORED: metrics.ignored.labels(*labels).inc,
            Outcome.DEFERRED: metrics.deferred.labels(*labels).inc,
            **{kind: metrics.duplicate.labels(*labels, kind).inc for kind in DUPLICATES},
        }
        self._count_rejected = {reason: metrics.rejected.labels(*labels, reason).inc for reason in Reason}
        self._count_unidentified = metrics.unidentified.labels(*labels).inc
        self._observe_ack = metrics.ack.labels(*labels).observe
        self._observe_transit = metrics.transit.labels(*labels).observe

    def count_received(self, arrivals: int) -> None:
        """Count arrivals, in flight until they are settled."""
        self._count_received(arrivals)
        self._in_flight += arrivals

    def count_settled(self, records: Sequence[Record], outcomes: Sequence[Outcome], seconds: float) -> None:
        """Count an outcome for each record; `seconds` is how long they were in flight."""
        self._in_flight -= len(records)
        self._observe_ack(seconds)
        stored, rejected = Outcome.STORED, Outcome.REJECTED  # to look a member up costs as much as to compare it
        for outcome in set(outcomes):
            if outcome is not rejected:
                self._count[outcome](outcomes.count(outcome))
        for record, outcome in zip(records, outcomes, strict=True):
            if outcome is stored and isinstance(record, Event):
                if record.published_at is not None:
                    transit = (record.received_at - record.published_at).total_seconds()
                    self._observe_transit(transit if transit > 0 else 0.0)
                elif not record.identified:
                    self._count_unidentified()
            elif outcome is rejected:
                self._count_rejected[record.reason if isinstance(record, Reject) else Reason.REFUSED_BY_STORE]()
