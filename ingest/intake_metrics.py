"""The counters of one source and mode: every arrival once, and every outcome once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from ingest.event import DUPLICATES, EchoOutcome, Event, Ignored, Mode, Outcome, Reason, Record, Reject
from ingest.metrics import Metrics

# To look a member up costs as much as to compare it.
_STORED, _REJECTED, _IGNORED = Outcome.STORED, Outcome.REJECTED, Outcome.IGNORED


class IntakeMetrics:
    """Counts so that at any moment received = stored + duplicate + rejected + ignored + deferred + in flight.

    An event in the spool is settled and stays in flight: what becomes of it is known when it is drained.
    """

    def __init__(self, metrics: Metrics, source: str, mode: Mode) -> None:
        labels = (source, mode)
        metrics.declare_source(*labels)
        metrics.in_flight.labels(*labels).set_function(lambda: self._in_flight)
        self._in_flight = 0
        self._spooled = 0  # of those in flight
        self._count_received = metrics.received.labels(*labels).inc
        self._count_stored = metrics.stored.labels(*labels).inc
        self._count = {
            Outcome.DEFERRED: metrics.deferred.labels(*labels).inc,
            Outcome.SPOOLED: self._keep_in_flight,
            **{kind: metrics.duplicate.labels(*labels, kind).inc for kind in DUPLICATES},
        }
        self._count_rejected = {reason: metrics.rejected.labels(*labels, reason).inc for reason in Reason}
        self._count_one_ignored = metrics.ignored.labels(*labels).inc
        self._count_echo = {outcome: metrics.hook_echoes.labels(*labels, outcome).inc for outcome in EchoOutcome}
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
        self._count_outcomes(records, outcomes)

    def count_drained(self, records: Sequence[Record], outcomes: Sequence[Outcome]) -> None:
        """Count what became of events that were in the spool.

        Those that are not in flight here are arrivals too: an earlier process took them, or the sender was told to
        send them again because the spool took too long.
        """
        in_flight = min(self._spooled, len(records))
        self._spooled -= in_flight
        self._in_flight -= in_flight
        self._count_received(len(records) - in_flight)
        self._count_outcomes(records, outcomes)

    def _keep_in_flight(self) -> None:
        self._in_flight += 1
        self._spooled += 1

    def _count_outcomes(self, records: Sequence[Record], outcomes: Sequence[Outcome]) -> None:
        stored = 0
        for record, outcome in zip(records, outcomes, strict=True):
            if outcome is _STORED:
                stored += 1
                self._observe_stored(record)
            elif outcome is _REJECTED:
                self._count_rejected[record.reason if isinstance(record, Reject) else Reason.REFUSED_BY_STORE]()
            elif outcome is _IGNORED:
                self._count_ignored(record)
            else:
                self._count[outcome]()
        if stored:
            self._count_stored(stored)

    def _count_ignored(self, record: Record) -> None:
        self._count_one_ignored()
        if isinstance(record, Ignored) and record.echo is not None:
            self._count_echo[record.echo.outcome]()

    def _observe_stored(self, event: Record) -> None:
        if not isinstance(event, Event):
            return
        if event.published_at is not None:
            transit = (event.received_at - event.published_at).total_seconds()
            self._observe_transit(transit if transit > 0 else 0.0)
        elif not event.identified:
            self._count_unidentified()


class IntakeAccounts:
    """The IntakeMetrics of each source and mode: of the source itself, and of what is drained from the spool."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._made: dict[tuple[str, Mode], IntakeMetrics] = {}

    def of(self, source: str, mode: Mode) -> IntakeMetrics:
        """Return those of a source and mode, also of one that is configured no more."""
        return self._made.get((source, mode)) or self._made.setdefault(
            (source, mode), IntakeMetrics(self._metrics, source, mode)
        )

    def count_drained(self, records: Sequence[Record], outcomes: Sequence[Outcome]) -> None:
        """Count what became of the events among these records; of the others it was known when they were spooled."""
        drained: defaultdict[tuple[str, Mode], list[tuple[Record, Outcome]]] = defaultdict(list)
        for record, outcome in zip(records, outcomes, strict=True):
            if isinstance(record, Event):
                drained[record.source, record.mode].append((record, outcome))
        for key, counted in drained.items():
            self.of(*key).count_drained(*zip(*counted, strict=True))
