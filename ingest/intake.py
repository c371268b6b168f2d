"""One source's way in: records are offered, have room, and are settled, each with exactly one outcome."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from ingest.event import Mode, Outcome, Record
from ingest.inbox import Inbox
from ingest.intake_metrics import IntakeMetrics
from ingest.metrics import Metrics
from ingest.source_health import LastSeen
from ingest.submission import Submission


class SourceIntake:
    """protocols.Intake of one source and mode."""

    def __init__(
        self, inbox: Inbox, metrics: Metrics, source: str, mode: Mode, counts: IntakeMetrics | None = None
    ) -> None:
        """`counts`: those of the source and mode, where somebody else counts in them too."""
        self._inbox = inbox
        self._metrics = counts or IntakeMetrics(metrics, source, mode)
        self._last_event_at: float | None = None  # Unix seconds
        self._last_byte_at: datetime | None = None
        labels = (source, mode)
        # Absent until seen, so these label sets are made by the first event and the first byte.
        self._declare_last_event: Callable[[], None] = lambda: metrics.last_event.labels(*labels).set_function(
            lambda: self._last_event_at or 0.0
        )
        self._declare_last_byte: Callable[[], None] = lambda: metrics.last_byte.labels(*labels).set_function(
            lambda: self._last_byte_at.timestamp() if self._last_byte_at else 0.0
        )

    def heard(self, at: datetime) -> None:
        """Note that a byte, or more, came from the sender."""
        if self._last_byte_at is None:
            self._declare_last_byte()
        self._last_byte_at = at

    def last_seen(self) -> LastSeen:
        """Return when the source last heard something."""
        event_at = self._last_event_at
        return LastSeen(None if event_at is None else datetime.fromtimestamp(event_at, UTC), self._last_byte_at)

    async def settle(self, records: Sequence[Record]) -> Sequence[Outcome]:
        """See protocols.Intake."""
        if not records:
            return ()
        submission = self._receive(records, held=False)
        if not self._inbox.enter(submission):
            await self._inbox.wait_for_room(submission)
        return await submission.settled

    async def offer(self, records: Sequence[Record]) -> asyncio.Future[Sequence[Outcome]]:
        """See protocols.Intake."""
        if not records:
            return _settled_already()
        submission = self._receive(records, held=True)
        if not self._inbox.enter(submission):
            await self._inbox.wait_for_room(submission)
        return submission.settled

    def _receive(self, records: Sequence[Record], *, held: bool) -> Submission:
        """Count arrivals. Raises TooLarge, having counted nothing."""
        submission = Submission(records, self._metrics, held=held)
        self._inbox.require_possible(submission)
        self._metrics.count_received(len(records))
        if self._last_event_at is None:
            self._declare_last_event()
        self._last_event_at = time.time()
        return submission


def _settled_already() -> asyncio.Future[Sequence[Outcome]]:
    """Return the outcomes of no records."""
    settled: asyncio.Future[Sequence[Outcome]] = asyncio.get_running_loop().create_future()
    settled.set_result(())
    return settled
