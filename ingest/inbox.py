"""The bounded queue before the store, and the group commit: nothing is acknowledged before it, everything is settled.

While one batch commits the next one gathers, so the group grows with the load and nobody waits for it to fill. What was
committed is told while the next batch is already on its way; where much is waiting, the next ones are there beforehand.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Sequence

import structlog

from ingest.errors import StoreUnavailable, TooLarge
from ingest.event import Event, Outcome, Record
from ingest.metrics import Metrics
from ingest.ports import Commit, Store
from ingest.submission import Submission

_GROUP_RECORDS = 1000  # where a group is cut, between submissions: larger ones commit no faster
_GROUP_RECORDS_IN_ORDER = 500  # where there may be several: smaller ones overlap better, and fit into a socket's buffer
_GROUP_BYTES = 8 * 1024 * 1024
_GROUPS_AHEAD = 3  # that the store has beside the one it commits, for the loop may be busy with decoding meanwhile
_AHEAD_RECORDS = 250  # so many have to wait before the store gets one: fewer are better together
_RETRY_SECONDS = 1.0  # between attempts to commit what is held, while the store is away

_Group = tuple[list[Submission], asyncio.Task[Commit]]

log = structlog.get_logger(__name__)


class Inbox:
    """Holds at most `max_events` records and `max_bytes` until they are committed.

    `patience_seconds` is how long a submission waits for room before it is deferred. `in_order`: the store commits
    groups in the order in which it is given them, also where it has several at once. `publish` is told what was
    committed, in order.
    """

    def __init__(
        self,
        store: Store,
        metrics: Metrics,
        *,
        max_events: int,
        max_bytes: int,
        patience_seconds: float,
        in_order: bool = False,
        publish: Callable[[Sequence[Event]], None] | None = None,
    ) -> None:
        self._store = store
        self._publish = publish
        self._metrics = metrics
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._patience_seconds = patience_seconds
        self._in_order = in_order
        self._group_records = _GROUP_RECORDS_IN_ORDER if in_order else _GROUP_RECORDS
        self._queue: deque[Submission] = deque()
        self._queued = 0  # records in the queue
        self._held = 0  # submissions, queued or being committed, that nobody will send again
        self._events = 0  # queued or being committed
        self._bytes = 0
        self._waiting: deque[Submission] = deque()  # in line: who needs much room is not overtaken by who needs little
        self._work = asyncio.Event()
        self._closed = asyncio.Event()
        metrics.inbox_events.set_function(lambda: self._events)

    def require_possible(self, submission: Submission) -> None:
        """Raise TooLarge where the submission could never fit."""
        if len(submission.records) > self._max_events or submission.bytes > self._max_bytes:
            raise TooLarge(
                f"{len(submission.records)} records of {submission.bytes} bytes are more than the inbox holds"
            )

    def submit(self, submission: Submission) -> None:
        """Queue a submission; it is told its outcomes, in order, in a later turn of the event loop or at once.

        All are DEFERRED where there is no room in time, the store is away, or the inbox is closing. What is held is
        DEFERRED only where the inbox closes.
        """
        if self._closed.is_set():
            self._defer(submission)
        elif not self._waiting and self._fits(submission):
            self._enter(submission)
        else:
            if not submission.held:
                loop = asyncio.get_running_loop()
                submission.overdue = loop.call_later(self._patience_seconds, self._give_up, submission)
            self._waiting.append(submission)

    async def admit(self, submission: Submission) -> None:
        """As `submit`, but return when the submission has room, or was deferred."""
        self.submit(submission)
        if self._waiting and self._waiting[-1] is submission:
            submission.entered = asyncio.get_running_loop().create_future()
            await submission.entered

    async def run(self) -> None:
        """Commit group after group until closed and empty."""
        tell_last: Callable[[], None] = _nobody
        under_way: deque[_Group] = deque()
        while True:
            while self._queue and (not under_way or (len(under_way) <= _GROUPS_AHEAD and self._may_go_ahead())):
                under_way.append(self._hand_over(self._take()))
            if under_way:
                await asyncio.sleep(0)  # the store has these groups before those of the last one are told
                tell_last()
                tell_last = await self._result(*under_way.popleft())
                continue
            tell_last()
            tell_last = _nobody
            if not self._queue:
                if self._closed.is_set():
                    return
                self._work.clear()
                await self._work.wait()

    def close(self) -> None:
        """Take nothing more; `run` returns when what is queued is settled."""
        self._closed.set()
        self._work.set()
        while self._waiting:
            self._defer(self._leave_line(self._waiting.popleft()))

    def _fits(self, submission: Submission) -> bool:
        return (
            self._events + len(submission.records) <= self._max_events
            and self._bytes + submission.bytes <= self._max_bytes
        )

    def _give_up(self, submission: Submission) -> None:
        self._waiting.remove(submission)
        self._defer(submission)
        self._admit()

    def _admit(self) -> None:
        """Let those in that were waiting, as far as there is room."""
        while self._waiting and self._fits(self._waiting[0]):
            self._enter(self._leave_line(self._waiting.popleft()))

    def _leave_line(self, submission: Submission) -> Submission:
        if submission.overdue is not None:
            submission.overdue.cancel()
        if submission.entered is not None and not submission.entered.done():
            submission.entered.set_result(None)
        return submission

    def _enter(self, submission: Submission) -> None:
        self._queue.append(submission)
        self._queued += len(submission.records)
        self._held += submission.held
        self._events += len(submission.records)
        self._bytes += submission.bytes
        self._work.set()

    def _may_go_ahead(self) -> bool:
        """Whether the store gets a group while it commits the one before: it need not wait for us in between.

        Not where anything is held: if the group before fails, what is held in it must not come after what followed.
        """
        return self._in_order and self._queued >= _AHEAD_RECORDS and not self._held

    def _take(self) -> list[Submission]:
        group, records, weight = [self._queue.popleft()], 0, 0
        while self._queue:
            records += len(group[-1].records)
            weight += group[-1].bytes
            if records >= self._group_records or weight >= _GROUP_BYTES:
                break
            group.append(self._queue.popleft())
        return group

    def _hand_over(self, group: list[Submission]) -> _Group:
        records = [record for submission in group for record in submission.records]
        self._queued -= len(records)
        return group, asyncio.create_task(self._commit(records))

    async def _commit(self, records: Sequence[Record]) -> Commit:
        """Commit, and measure: of a group that was given beforehand, with its wait for the one before."""
        started = time.perf_counter()
        commit = await self._store.commit(records)
        self._metrics.commit_seconds.observe(time.perf_counter() - started)
        self._metrics.commit_events.observe(len(commit.outcomes))
        return commit

    async def _result(self, group: list[Submission], committing: asyncio.Task[Commit]) -> Callable[[], None]:
        """Wait for a commit; what remains to be done is to tell those of the group."""
        try:
            commit = await committing
        except StoreUnavailable as error:
            await self._store_away(group, error)
            return _nobody
        except Exception:  # a fault of ours must not end the only committer; the senders will send again
            log.exception("commit_failed", deferred=len(group))
            self._settle(group, [Outcome.DEFERRED] * sum(len(submission.records) for submission in group))
            return _nobody
        return lambda: self._committed(group, commit)

    def _committed(self, group: list[Submission], commit: Commit) -> None:
        self._settle(group, commit.outcomes)
        if self._publish is not None:
            self._publish(commit.events())

    async def _store_away(self, group: list[Submission], error: StoreUnavailable) -> None:
        """Defer what will be sent again, keep what will not for another attempt, unless we close."""
        group += self._queue  # whoever waits behind would wait once more as long, for the same answer
        closing = self._closed.is_set()
        deferred = [submission for submission in group if closing or not submission.held]
        self._queue = deque(submission for submission in group if submission.held and not closing)
        self._queued = sum(len(submission.records) for submission in self._queue)
        log.warning("store_unavailable", error=str(error), deferred=len(deferred), held=len(self._queue))
        self._settle(deferred, [Outcome.DEFERRED] * sum(len(submission.records) for submission in deferred))
        if self._queue:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closed.wait(), _RETRY_SECONDS)

    def _settle(self, group: list[Submission], outcomes: Sequence[Outcome]) -> None:
        start = 0
        for submission in group:
            end = start + len(submission.records)
            self._tell(submission, outcomes[start:end])
            start = end
            self._bytes -= submission.bytes
            self._held -= submission.held
        self._events -= start
        self._admit()

    def _defer(self, submission: Submission) -> None:
        self._tell(submission, [Outcome.DEFERRED] * len(submission.records))

    def _tell(self, submission: Submission, outcomes: Sequence[Outcome]) -> None:
        try:
            submission.settled(outcomes)
        except Exception:  # one waiter's fault must not harm those who are told after it
            log.exception("outcome_not_told")


def _nobody() -> None:
    """There is nobody to tell."""
