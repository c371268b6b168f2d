"""One source's way in: every record gets exactly one outcome, and every outcome is counted once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from ingest.event import DUPLICATES, Event, Mode, Outcome, Reason, Record, Reject
from ingest.inbox import Inbox
from ingest.metrics import Metrics
from ingest.ports import LastSeen
from ingest.submission import Settled, Submission


class SourceIntake:
    """ports.Intake of one source and mode.

    At any moment received = stored + duplicate + rejected + ignored + deferred + in flight.
    """

    def __init__(self, inbox: Inbox, metrics: Metrics, source: str, mode: Mode) -> None:
        self._inbox = inbox
        self._in_flight = 0
        self._last_event_at: float | None = None  # Unix seconds
        self._last_byte_at: datetime | None = None
        labels = (source, mode.value)
        metrics.declare_source(*labels)
        metrics.in_flight.labels(*labels).set_function(lambda: self._in_flight)
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
        # Absent until seen, so these label sets are made by the first event and the first byte.
        self._declare_last_event: Callable[[], None] = lambda: metrics.last_event.labels(*labels).set_function(
            lambda: self._last_event_at or 0.0
        )
        self._declare_last_byte: Callable[[], None] = lambda: metrics.last_byte.labels(*labels).set_function(
            lambda: self._last_byte_at.timestamp() if self._last_byte_at else 0.0
        )

    def heard(self, at: datetime) -> None:
        """A byte, or more, came from the sender."""
        if self._last_byte_at is None:
            self._declare_last_byte()
        self._last_byte_at = at

    def last_seen(self) -> LastSeen:
        """When the source last heard something."""
        event_at = self._last_event_at
        return LastSeen(None if event_at is None else datetime.fromtimestamp(event_at, UTC), self._last_byte_at)

    async def settle(self, records: Sequence[Record]) -> Sequence[Outcome]:
        """See ports.Intake."""
        told: asyncio.Future[Sequence[Outcome]] = asyncio.get_running_loop().create_future()

        def tell(outcomes: Sequence[Outcome]) -> None:
            if not told.done():  # a caller who no longer waits changes nothing
                told.set_result(outcomes)

        self.submit(records, tell)
        return await told

    def submit(self, records: Sequence[Record], tell: Settled) -> None:
        """See ports.Intake."""
        if not records:
            tell(())
            return
        self._inbox.submit(self._received_now(records, tell, held=False))

    async def offer(self, records: Sequence[Record], tell: Settled) -> None:
        """See ports.Intake."""
        if records:
            await self._inbox.admit(self._received_now(records, tell, held=True))
        else:
            tell(())

    def _received_now(self, records: Sequence[Record], tell: Settled, *, held: bool) -> Submission:
        """Count the arrivals, and make what counts their outcomes. Raises TooLarge, having counted nothing."""
        started = time.perf_counter()

        def settled(outcomes: Sequence[Outcome]) -> None:
            self._in_flight -= len(records)
            self._observe_ack(time.perf_counter() - started)
            self._count_outcomes(records, outcomes)
            tell(outcomes)

        submission = Submission(records, settled, held=held)
        self._inbox.require_possible(submission)
        self._count_received(len(records))
        self._in_flight += len(records)
        if self._last_event_at is None:
            self._declare_last_event()
        self._last_event_at = time.time()
        return submission

    def _count_outcomes(self, records: Sequence[Record], outcomes: Sequence[Outcome]) -> None:
        stored, rejected = Outcome.STORED, Outcome.REJECTED  # to look a member up costs as much as to compare it
        for outcome in set(outcomes):
            if outcome is not rejected:
                self._count[outcome](outcomes.count(outcome))
        for record, outcome in zip(records, outcomes, strict=True):
            if outcome is stored and isinstance(record, Event):
                if record.published_at is not None:
                    seconds = (record.received_at - record.published_at).total_seconds()
                    self._observe_transit(seconds if seconds > 0 else 0.0)
                elif not record.identified:
                    self._count_unidentified()
            elif outcome is rejected:
                self._count_rejected[record.reason if isinstance(record, Reject) else Reason.REFUSED_BY_STORE]()
