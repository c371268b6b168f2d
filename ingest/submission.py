"""The records that are handed to the inbox at once, and their weight there."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping, Sequence

from ingest.event import Event, Outcome, Record, Reject
from ingest.intake_metrics import IntakeMetrics

_RECORD_BYTES = 600  # what a record weighs in memory besides its data and attributes
_ATTRIBUTE_BYTES = 150  # what an attribute weighs besides its characters


class Submission:
    """Records that commit together. `settled` is done, with an outcome for each, when they have their outcomes.

    What is `held` will not be sent again by anybody: it waits for room and for the store as long as that takes. Of
    anything else the sender is answered by `answer_by`, a time of the event loop's clock.
    """

    __slots__ = ("_is_settled", "_metrics", "_received_at", "answer_by", "bytes", "held", "records", "settled")

    def __init__(self, records: Sequence[Record], metrics: IntakeMetrics, *, held: bool = False) -> None:
        self.records = records
        self.held = held
        self.answer_by = math.inf
        self.bytes = sum(map(weight, records))
        self.settled: asyncio.Future[Sequence[Outcome]] = asyncio.get_running_loop().create_future()
        self._metrics = metrics
        self._received_at = time.perf_counter()
        self._is_settled = False

    def settle(self, outcomes: Sequence[Outcome]) -> None:
        """Count the outcomes, and let whoever awaits them go on. A caller who no longer waits changes nothing.

        The first time counts: what was deferred because the store took too long stays so, also where it commits.
        """
        if self._is_settled:
            return
        self._is_settled = True
        self._metrics.count_settled(self.records, outcomes, time.perf_counter() - self._received_at)
        if not self.settled.done():
            self.settled.set_result(outcomes)


def settle_all(submissions: Sequence[Submission], outcomes: Sequence[Outcome]) -> None:
    """Deal the outcomes of a group out, in order."""
    start = 0
    for submission in submissions:
        end = start + len(submission.records)
        submission.settle(outcomes[start:end])
        start = end


def defer_all(submissions: Sequence[Submission]) -> None:
    """Settle all of them as DEFERRED."""
    for submission in submissions:
        submission.settle([Outcome.DEFERRED] * len(submission.records))


def weight(record: Record) -> int:
    """Return about how many bytes of memory a record holds."""
    if isinstance(record, Event):
        size = _RECORD_BYTES + (len(record.data) if record.data else 0)
        return size + _beside(record.attributes) if record.attributes else size
    if isinstance(record, Reject):
        return _RECORD_BYTES + len(record.body) + _beside(record.attributes) + _headers_weight(record)
    return _RECORD_BYTES


def _beside(texts: Mapping[str, str] | None) -> int:
    """Return about how many bytes attributes or headers hold."""
    return _ATTRIBUTE_BYTES * len(texts) + _characters(texts) if texts else 0


def _headers_weight(reject: Reject) -> int:
    """Return the same of a reject's headers. The elements of one body share them in memory, but not in the commit."""
    return _beside(reject.headers) if reject.element is None else _characters(reject.headers or {})


def _characters(texts: Mapping[str, str]) -> int:
    return sum(map(len, texts)) + sum(map(len, texts.values()))
