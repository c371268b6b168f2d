"""The counters of one source and mode: every arrival once, and every outcome once."""

from __future__ import annotations

from collections.abc import Sequence

from ingest.event import DUPLICATES, Event, Mode, Outcome, Reason, Record, Reject
from ingest.metrics import Metrics

_STORED, _REJECTED = Outcome.STORED, Outcome.REJECTED  # to look a member up costs as much as to compare it


class IntakeMetrics:
    """Counts so that at any moment received = stored + duplicate + rejected + ignored + deferred + in flight."""

    def __init__(self, metrics: Metrics, source: str, mode: Mode) -> None:
        labels = (source, mode)
        metrics.declare_source(*labels)
        metrics.in_flight.labels(*labels).set_function(lambda: self._in_flight)
        self._in_flight = 0
        self._count_received = metrics.received.labels(*labels).inc
        self._count_stored = metrics.stored.labels(*labels).inc
        self._count = {
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
        stored = 0
        for record, outcome in zip(records, outcomes, strict=True):
            if outcome is _STORED:
                stored += 1
                self._observe_stored(record)
            elif outcome is _REJECTED:
                self._count_rejected[record.reason if isinstance(record, Reject) else Reason.REFUSED_BY_STORE]()
            else:
                self._count[outcome]()
        if stored:
            self._count_stored(stored)

    def _observe_stored(self, event: Record) -> None:
        if not isinstance(event, Event):
            return
        if event.published_at is not None:
            transit = (event.received_at - event.published_at).total_seconds()
            self._observe_transit(transit if transit > 0 else 0.0)
        elif not event.identified:
            self._count_unidentified()
