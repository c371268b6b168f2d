"""The bounded queue before the store, and the group commit: nothing is acknowledged before it, everything is settled.

While one group commits the next one gathers, so the group grows with the load and nobody waits for it to fill. The next
one is on its way before those of the last are settled; where much is waiting, several are.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import chain
from typing import NamedTuple

import structlog

from ingest.errors import StoreUnavailable, TooLarge
from ingest.event import Commit, Record
from ingest.metrics import Metrics
from ingest.protocols import Store
from ingest.retrying import wait_at_most
from ingest.submission import Submission, defer_all, settle_all
from ingest.waiting_line import WaitingLine

_GROUP_RECORDS = 1000  # where a group is cut, between submissions: larger ones commit no faster
_GROUP_RECORDS_IN_ORDER = 500  # where there may be several: smaller ones overlap better, and fit into a socket's buffer
_GROUP_BYTES = 8 * 1024 * 1024
_GROUPS_AHEAD = 3  # that the store has beside the one it commits, for the loop may be busy with decoding meanwhile
_AHEAD_RECORDS = 250  # so many have to wait before the store gets one: fewer are better together
_ANSWER_SECONDS = 12.0  # a sender is promised 15; the usual ones give up after 20 (Particle)

log = structlog.get_logger(__name__)


class _Group(NamedTuple):
    """Submissions that commit together, on their way."""

    submissions: list[Submission]
    records: int
    committing: asyncio.Task[Commit]


class Inbox:
    """Holds at most `max_events` records and `max_bytes` until they are committed.

    `patience_seconds` is how long a submission waits for room before it is deferred; what waits counts in `max_bytes`
    too, and beyond it nobody waits. Whatever the store does, a submission has its outcomes within `answer_seconds`:
    deferred, if it is not committed by then. None of this is for what is held: `retry_seconds` is how long that waits
    between attempts while the store is away.

    `in_order`: the store commits groups in the order in which it is given them, also where it has several at once. A
    group is cut at `group_records`, between submissions. `publish` is given each commit, in order, and the bytes of its
    records.
    """

    def __init__(
        self,
        store: Store,
        metrics: Metrics,
        *,
        max_events: int,
        max_bytes: int,
        patience_seconds: float,
        answer_seconds: float = _ANSWER_SECONDS,
        retry_seconds: float = 1.0,
        in_order: bool = False,
        group_records: int | None = None,
        publish: Callable[[Commit, int], None] | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._store = store
        self._publish = publish
        self._metrics = metrics
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._patience_seconds = patience_seconds
        self._answer_seconds = answer_seconds
        self._retry_seconds = retry_seconds
        self._in_order = in_order
        self._group_records = group_records or (_GROUP_RECORDS_IN_ORDER if in_order else _GROUP_RECORDS)
        self._clock = clock
        self._queue: deque[Submission] = deque()
        self._under_way: deque[_Group] = deque()
        self._events = 0  # records queued or under way
        self._bytes = 0
        self._alone = 0  # so many of the next submissions commit each by itself
        self._held = 0  # submissions, queued or under way, that nobody will send again
        self._line = WaitingLine()
        self._answering: asyncio.TimerHandle | None = None  # while there may be anybody to be answered in time
        self._work = asyncio.Event()
        self._closed = asyncio.Event()
        metrics.inbox_events.set_function(lambda: self._events)

    def require_possible(self, submission: Submission) -> None:
        """Raise TooLarge where the submission could never fit."""
        count = len(submission.records)
        if count > self._max_events or submission.bytes > self._max_bytes:
            raise TooLarge(f"{count} records of {submission.bytes} bytes are more than the inbox holds")

    def enter(self, submission: Submission) -> bool:
        """Take a submission in; False where it has to wait for room. Where there is none to wait in, it is DEFERRED.

        Where the inbox is closed everything is. What is held waits for room and store as long as that takes, and is
        DEFERRED only where the inbox closes meanwhile.
        """
        if self._closed.is_set():
            defer_all([submission])
            return True
        if not submission.held:
            self._promise_answer(submission)
        if not self._line.waiting and self._fits(submission):
            self._take_in(submission)
        elif submission.held or self._bytes + self._line.bytes + submission.bytes <= self._max_bytes:
            return False
        else:
            defer_all([submission])
        return True

    async def wait_for_room(self, submission: Submission) -> None:
        """Return when the submission is taken in, or DEFERRED because the patience or the inbox came to its end.

        What is held has endless patience. Cancelling the caller does not take the submission back.
        """
        if not await self._line.wait(submission, None if submission.held else self._patience_seconds):
            defer_all([submission])
            self._give_room()

    async def run(self) -> None:
        """Commit group after group until closed and empty."""
        while self._queue or not self._closed.is_set():
            if not self._queue:
                self._work.clear()
                await self._work.wait()
            self._hand_over()
            while self._under_way:
                await self._settle_next()

    def close(self) -> None:
        """Take nothing more; `run` returns when what is queued is settled."""
        self._closed.set()
        self._work.set()
        while self._line.waiting:
            defer_all([self._line.call_first()])

    def _fits(self, submission: Submission) -> bool:
        return (
            self._events + len(submission.records) <= self._max_events
            and self._bytes + submission.bytes <= self._max_bytes
        )

    def _take_in(self, submission: Submission) -> None:
        self._queue.append(submission)
        self._held += submission.held
        self._events += len(submission.records)
        self._bytes += submission.bytes
        self._work.set()

    def _give_room(self) -> None:
        """Let those in line in, as far as there is room."""
        while self._line.waiting and self._fits(self._line.waiting[0][0]):
            self._take_in(self._line.call_first())

    def _promise_answer(self, submission: Submission) -> None:
        loop = asyncio.get_running_loop()
        submission.answer_by = loop.time() + self._answer_seconds
        if self._answering is None:
            self._answering = loop.call_at(submission.answer_by, self._answer_overdue)

    def _answer_overdue(self) -> None:
        """Defer what has waited for too long. What the store has already stays in its group, and in the bound."""
        self._answering = None
        loop = asyncio.get_running_loop()
        now = loop.time()
        under_way = [submission for group in self._under_way for submission in group.submissions]
        queued = [submission for submission in self._queue if submission.answer_by <= now]
        if queued:
            self._queue = deque(submission for submission in self._queue if submission.answer_by > now)
            self._leave(queued)
        overdue = [submission for submission in under_way if submission.answer_by <= now] + queued
        if overdue:
            log.warning("store_slow", deferred=len(overdue), seconds=self._answer_seconds)
        defer_all(overdue)
        self._give_room()
        waiting = chain(under_way, self._queue, self._line)
        left = (submission.answer_by for submission in waiting if submission.answer_by > now)
        if (earliest := min(left, default=math.inf)) < math.inf:
            self._answering = loop.call_at(earliest, self._answer_overdue)

    def _hand_over(self) -> None:
        """Give the store the next group, and those it may have beforehand."""
        while self._queue and (not self._under_way or self._may_go_ahead()):
            submissions = self._next_group()
            records = [record for submission in submissions for record in submission.records]
            committing = asyncio.create_task(self._commit(records))
            self._under_way.append(_Group(submissions, len(records), committing))

    def _may_go_ahead(self) -> bool:
        """Return whether the store gets a group while it commits the one before: it need not wait for us in between.

        Not where anything is held: if the group before fails, what is held in it must not come after what followed.
        """
        if not self._in_order or self._held or len(self._under_way) > _GROUPS_AHEAD:
            return False
        return self._events - sum(group.records for group in self._under_way) >= _AHEAD_RECORDS

    def _next_group(self) -> list[Submission]:
        group, records, weight = [self._queue.popleft()], 0, 0
        if self._alone:
            self._alone -= 1
            return group
        while self._queue:
            records += len(group[-1].records)
            weight += group[-1].bytes
            if records >= self._group_records or weight >= _GROUP_BYTES:
                break
            group.append(self._queue.popleft())
        return group

    async def _commit(self, records: Sequence[Record]) -> Commit:
        """Commit, and measure: of a group that was given beforehand, with its wait for the one before."""
        started = self._clock()
        commit = await self._store.commit(records)
        self._metrics.commit_seconds.observe(self._clock() - started)
        self._metrics.commit_events.observe(len(commit.outcomes))
        return commit

    async def _settle_next(self) -> None:
        """Wait for the oldest group's commit, and settle it when the store has the next one."""
        group = self._under_way[0]
        try:
            commit = await group.committing
        except StoreUnavailable as error:
            self._under_way.popleft()
            await self._store_away(group.submissions, error)
        except Exception as fault:  # of ours: it must not end the only committer
            self._under_way.popleft()
            self._set_apart(group.submissions, fault)
        else:
            self._under_way.popleft()
            self._hand_over()
            await asyncio.sleep(0)
            self._leave(group.submissions)
            settle_all(group.submissions, commit.outcomes)
            self._give_room()
            self._tell(commit, sum(submission.bytes for submission in group.submissions))

    def _tell(self, commit: Commit, size: int) -> None:
        """Publish what is settled; where that fails, the feed reads it from the store."""
        if self._publish is not None:
            try:
                self._publish(commit, size)
            except Exception:  # it must not end the only committer
                log.exception("publish_failed")

    def _set_apart(self, submissions: list[Submission], fault: Exception) -> None:
        """Have each submission of a group that failed commit by itself, and defer the one that failed by itself."""
        if len(submissions) > 1:
            log.warning("group_failed", error=repr(fault), submissions=len(submissions))
            self._queue.extendleft(reversed(submissions))
            self._alone += len(submissions)
            return
        log.error("commit_failed", deferred=len(submissions), exc_info=fault)
        self._leave(submissions)
        defer_all(submissions)
        self._give_room()

    async def _store_away(self, group: list[Submission], error: StoreUnavailable) -> None:
        """Defer what will be sent again, keep what will not for another attempt, unless we close."""
        group += self._queue  # whoever waits behind would wait once more as long, for the same answer
        closing = self._closed.is_set()
        deferred = [submission for submission in group if closing or not submission.held]
        self._queue = deque(submission for submission in group if submission.held and not closing)
        log.warning("store_unavailable", error=str(error), deferred=len(deferred), held=len(self._queue))
        self._leave(deferred)
        defer_all(deferred)
        self._give_room()
        if self._queue:
            await wait_at_most(self._closed, self._retry_seconds)

    def _leave(self, submissions: Sequence[Submission]) -> None:
        for submission in submissions:
            self._events -= len(submission.records)
            self._bytes -= submission.bytes
            self._held -= submission.held
