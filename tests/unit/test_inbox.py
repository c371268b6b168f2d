"""The bounded queue and the group commit: everything is settled once, whatever becomes of store, senders and room."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from ingest.errors import StoreUnavailable, TooLarge
from ingest.event import Event, Outcome, Record
from ingest.inbox import Inbox
from ingest.intake_metrics import IntakeMetrics
from ingest.metrics import Metrics
from ingest.submission import Submission, weight
from tests.support.gated_store import GatedStore
from tests.support.records import a_reject, an_event, numbered

STORED, DEFERRED = Outcome.STORED, Outcome.DEFERRED


class Rig:
    """An inbox with these options that runs on a gated store; `settled` are the outcomes so far, in their order."""

    def __init__(self, **options: Any) -> None:
        self.store = GatedStore()
        self.published: list[Event] = []
        self.settled: list[Sequence[Outcome]] = []
        self.registry = CollectorRegistry()
        metrics = Metrics(self.registry)
        self.metrics = IntakeMetrics(metrics, "fleet", "webhook")
        self.inbox = Inbox(
            self.store,
            metrics,
            **{"max_events": 100, "max_bytes": 10**6, "patience_seconds": 5.0, "retry_seconds": 60.0} | options,
            publish=lambda commit, _: self.published.extend(commit.events()),
        )
        self.running = asyncio.create_task(self.inbox.run())

    def submission(self, records: Sequence[Record], *, held: bool = False) -> Submission:
        """Records that note their outcomes in `settled`."""
        submission = Submission(records, self.metrics, held=held)
        submission.settled.add_done_callback(lambda settled: self.settled.append(settled.result()))
        return submission

    def put(self, *records: Record, held: bool = False) -> asyncio.Future[Sequence[Outcome]]:
        """Take records in at once; the outcomes to come."""
        submission = self.submission(records, held=held)
        assert self.inbox.enter(submission)
        return submission.settled

    def send(self, *records: Record, held: bool = False) -> asyncio.Task[Sequence[Outcome]]:
        """Have a sender wait for room, and for its outcomes."""

        async def send() -> Sequence[Outcome]:
            submission = self.submission(records, held=held)
            if not self.inbox.enter(submission):
                await self.inbox.wait_for_room(submission)
            return await asyncio.shield(submission.settled)

        return asyncio.create_task(send())

    async def busy(self) -> asyncio.Task[Sequence[Outcome]]:
        """A sender whose record is being committed, behind a closed gate."""
        self.store.close_gate()
        sender = self.send(an_event("first"))
        await self.store.begun()
        return sender

    def waiting(self) -> float | None:
        """The gauge headrace_inbox_events."""
        return self.registry.get_sample_value("headrace_inbox_events")


Make = Callable[..., Rig]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    """Makes rigs, and ends them."""
    rigs: list[Rig] = []

    def make(**options: Any) -> Rig:
        rigs.append(Rig(**options))
        return rigs[-1]

    yield make
    for rig in rigs:
        rig.running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await rig.running


async def turns(count: int = 10) -> None:
    """Let every task that can go on do so."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_what_arrives_during_a_commit_is_the_next_group(make: Make) -> None:
    """Nobody waits for a group to fill: the first commits alone, all that gathered meanwhile commits together."""
    rig = make()
    first = await rig.busy()
    others = [rig.send(*numbered(2, start)) for start in range(0, 20, 2)]
    await turns()
    rig.store.open_gate()

    assert await first == [STORED]
    assert await asyncio.gather(*others) == [[STORED, STORED]] * 10
    assert rig.store.batches == [1, 20]


async def test_each_submission_gets_its_own_outcomes(make: Make) -> None:
    """The outcomes of a group are dealt out in order, and what is new is published once."""
    rig = make()
    first = await rig.busy()
    mixed, alone = rig.send(an_event(), a_reject(), an_event("b")), rig.send(a_reject())
    await turns()
    rig.store.open_gate()

    assert list(await mixed) == [STORED, Outcome.REJECTED, STORED]
    assert list(await alone) == [Outcome.REJECTED]
    await first
    assert [event.name for event in rig.published] == ["first", "temperature", "b"]


async def test_a_group_is_cut_between_submissions(make: Make) -> None:
    """A thousand records make a group, and a submission is never torn apart."""
    rig = make(max_events=20_000, max_bytes=10**9)
    await rig.busy()
    senders = [rig.send(*numbered(400)) for _ in range(6)]
    await turns()
    rig.store.open_gate()
    await asyncio.gather(*senders)

    assert rig.store.batches == [1, 1200, 1200]


async def test_a_store_that_is_away_defers_everyone_who_waits(make: Make) -> None:
    """Who queues behind a failed commit is told at once and not after a failure each; then the inbox goes on."""
    rig = make()
    first = await rig.busy()
    others = [rig.send(an_event(), a_reject()) for _ in range(5)]
    await turns()

    def away(records: Sequence[Record]) -> Sequence[Outcome]:
        raise StoreUnavailable("gone")

    back, rig.store.decide = rig.store.decide, away
    rig.store.open_gate()

    assert await first == [DEFERRED]
    assert await asyncio.gather(*others) == [[DEFERRED, DEFERRED]] * 5
    assert rig.store.batches == [1]
    assert rig.waiting() == 0
    rig.store.decide = back
    assert await rig.send(an_event()) == [STORED]


async def test_a_fault_of_ours_defers_and_does_not_end_the_committer(make: Make) -> None:
    """An unforeseen exception in a commit is no acknowledgement, and the next commit takes place."""
    rig = make()
    first = await rig.busy()

    def broken(records: Sequence[Record]) -> Sequence[Outcome]:
        raise ZeroDivisionError

    back, rig.store.decide = rig.store.decide, broken
    rig.store.open_gate()
    assert await first == [DEFERRED]
    rig.store.decide = back
    assert await rig.send(an_event()) == [STORED]


async def test_a_cancelled_sender_is_settled_and_harms_nobody(make: Make) -> None:
    """Who hangs up after handing over is still committed and counted; the neighbours in the group get theirs."""
    rig = make()
    first = await rig.busy()
    gone, stays = rig.send(*numbered(2)), rig.send(an_event())
    await turns()
    gone.cancel()
    await turns()
    rig.store.open_gate()

    assert await stays == [STORED]
    await first
    assert gone.cancelled()
    assert [len(outcomes) for outcomes in rig.settled] == [1, 2, 1]
    assert rig.waiting() == 0


async def test_a_full_inbox_is_a_bounded_wait(make: Make) -> None:
    """Without room within the patience a submission is deferred, and leaves nothing behind."""
    rig = make(max_events=3, patience_seconds=0.05)
    first = await rig.busy()
    queued, late = rig.send(*numbered(2)), rig.send(an_event())

    assert await late == [DEFERRED]
    assert rig.waiting() == 3
    rig.store.open_gate()
    assert await first == [STORED]
    assert await queued == [STORED] * 2
    assert rig.store.batches == [1, 2]
    assert rig.waiting() == 0


async def test_room_within_the_patience_is_used(make: Make) -> None:
    """Who waits for room is committed as soon as there is some."""
    rig = make(max_events=1)
    first = await rig.busy()
    waiting = [rig.send(an_event()) for _ in range(5)]
    await turns()
    rig.store.open_gate()

    assert await asyncio.gather(first, *waiting) == [[STORED]] * 6


async def test_bytes_are_bounded_too(make: Make) -> None:
    """What is large, in data, in attributes or as a reject's body, fills the inbox before its number does."""
    large: list[Record] = [
        an_event(data=b"x" * 60_000),
        an_event(attributes={"a": "x" * 60_000}),
        an_event(attributes={"x" * 60_000: ""}),
        a_reject(b"x" * 60_000),
    ]
    rig = make(max_bytes=100_000, patience_seconds=0.01)
    await rig.busy()
    held = rig.send(large[0])
    await turns()

    assert [await rig.send(record) for record in large] == [[DEFERRED]] * 4
    rig.store.open_gate()
    assert await held == [STORED]


async def test_many_attributes_weigh_more_than_their_characters(make: Make) -> None:
    """A record of ten thousand tiny attributes is no small record in memory."""
    many = {str(number): "" for number in range(10_000)}
    assert weight(an_event(attributes=many)) > 1_000_000
    assert weight(a_reject(attributes=many)) > 1_000_000
    assert weight(a_reject(headers=many)) > 1_000_000
    assert weight(a_reject(headers={"a": "x" * 3000}, element=7)) > 3_000


async def test_a_large_submission_is_not_overtaken_for_ever(make: Make) -> None:
    """While small submissions keep coming, one that needs nearly the whole inbox gets its turn."""
    rig = make(max_events=10, group_records=1)  # so that the inbox is never emptied at once
    await rig.busy()
    stop = False

    async def keep_sending() -> None:
        while not stop:
            await rig.send(an_event())

    small = [asyncio.create_task(keep_sending()) for _ in range(20)]
    await turns()
    large = rig.send(*numbered(9))
    await turns()
    rig.store.open_gate()

    async with asyncio.timeout(2):
        assert await large == [STORED] * 9
    stop = True
    await asyncio.gather(*small)


async def test_more_than_the_inbox_holds_is_refused(make: Make) -> None:
    """What could never fit, in number or in bytes, is TooLarge and not a wait."""
    rig = make(max_events=3, max_bytes=10_000)
    rig.inbox.require_possible(rig.submission(numbered(3)))
    for records in (numbered(4), numbered(1, data=b"x" * 10_000)):
        with pytest.raises(TooLarge):
            rig.inbox.require_possible(rig.submission(records))


async def test_closing_settles_what_was_taken_and_takes_no_more(make: Make) -> None:
    """A drain commits the queue, defers who waits for room or comes later, and then `run` returns."""
    rig = make(max_events=3)
    first = await rig.busy()
    queued, no_room = rig.send(*numbered(2)), rig.send(an_event())
    await turns()
    rig.inbox.close()
    late = rig.send(an_event())

    assert [list(await no_room), list(await late)] == [[DEFERRED], [DEFERRED]]
    rig.store.open_gate()
    assert await first == [STORED]
    assert await queued == [STORED] * 2
    await rig.running
    assert rig.store.batches == [1, 2]


async def test_a_sender_that_hung_up_in_the_line_is_still_settled(make: Make) -> None:
    """Its record was taken, so it is committed in its turn, and the next in line is not harmed."""
    rig = make(max_events=1)
    first = await rig.busy()
    gone, next_in_line = rig.send(an_event("gone")), rig.send(an_event("next"))
    await turns()
    gone.cancel()
    await turns()
    rig.store.open_gate()

    assert await first == await next_in_line == [STORED]
    assert rig.settled == [[STORED]] * 3
    assert rig.store.batches == [1, 1, 1]


async def test_closing_defers_the_whole_line(make: Make) -> None:
    """Nobody of those who wait for room slips in while the inbox closes."""
    rig = make(max_events=1)
    first = await rig.busy()
    line = [rig.send(an_event(name)) for name in ("a", "b", "c")]
    await turns()
    rig.inbox.close()
    assert [await sender for sender in line] == [[DEFERRED]] * 3
    rig.store.open_gate()
    assert await first == [STORED]


async def test_what_is_held_waits_for_the_store(make: Make) -> None:
    """While the store is away it is kept, in its order, and tried again; who will send again is told so at once."""
    rig = make(retry_seconds=0.01)
    attempts = 0

    def away_twice(records: Sequence[Record]) -> Sequence[Outcome]:
        nonlocal attempts
        attempts += 1
        if attempts < 3:
            raise StoreUnavailable("away")
        return [STORED] * len(records)

    rig.store.decide = away_twice
    first, sender, second = rig.put(an_event("a"), held=True), rig.send(an_event("b")), rig.put(*numbered(2), held=True)

    assert await sender == [DEFERRED]
    assert not first.done()
    assert rig.waiting() == 3
    assert [await first, await second] == [[STORED], [STORED] * 2]
    assert [event.name for event in rig.published][:1] == ["a"]
    assert rig.waiting() == 0


async def test_what_is_held_is_deferred_where_we_close_without_a_store(make: Make) -> None:
    """A stop does not wait for a store that is away, nor for the next attempt: it was not committed."""
    rig = make(retry_seconds=3600)

    def away(records: Sequence[Record]) -> Sequence[Outcome]:
        raise StoreUnavailable("away")

    rig.store.decide = away
    settled = rig.put(an_event(), held=True)
    await turns()
    assert not settled.done()
    rig.inbox.close()

    await rig.running
    assert await settled == [DEFERRED]


async def test_who_offers_to_a_full_inbox_waits_for_room(make: Make) -> None:
    """However long it takes: a reader reads no more meanwhile, and nothing is deferred."""
    rig = make(max_events=1, patience_seconds=0.001)
    first = await rig.busy()
    held = rig.submission([an_event("next")], held=True)
    assert not rig.inbox.enter(held)
    offering = asyncio.create_task(rig.inbox.wait_for_room(held))
    assert await rig.send(an_event("impatient")) == [DEFERRED]
    assert not offering.done()

    rig.store.open_gate()
    await offering
    assert await first == [STORED]
    assert await held.settled == [STORED]


async def test_what_is_held_is_never_overtaken(make: Make) -> None:
    """While an attempt to commit what is held may fail, the store is given nothing that came after it."""
    rig = make(max_events=20_000, max_bytes=10**9, retry_seconds=0.01, in_order=True)
    rig.store.close_gate()
    held = rig.put(*numbered(500), held=True)
    await rig.store.begun()
    later = [rig.put(*numbered(100, start), held=True) for start in range(1000, 2000, 100)]
    committed: list[Sequence[Record]] = []

    def away_once(records: Sequence[Record]) -> Sequence[Outcome]:
        committed.append(records)
        if len(committed) == 1:
            raise StoreUnavailable("away")
        return [STORED] * len(records)

    rig.store.decide = away_once
    rig.store.open_gate()
    await asyncio.gather(held, *later)

    numbers = [event.published_at for event in rig.published]
    assert numbers == [record.published_at for record in [*numbered(500), *numbered(1000, 1000)] if record.published_at]
    assert [len(records) for records in committed] == [500, 500, 500, 500]


async def test_a_group_is_settled_while_the_next_one_commits(make: Make) -> None:
    """The store is not idle while answers are written."""
    rig = make()
    rig.store.close_gate()
    begun_when_settled: list[int] = []
    first = rig.put(an_event("first"))
    first.add_done_callback(lambda _: begun_when_settled.append(len(rig.store.batches)))
    await rig.store.begun()
    second = rig.send(an_event("second"))
    await turns()
    rig.store.open_gate()

    assert await second == [STORED]
    assert begun_when_settled == [2]


async def test_where_much_waits_the_store_has_the_next_groups_beforehand(make: Make) -> None:
    """A store that keeps the order gets three while it commits the one before; all are settled in order."""
    rig = make(max_events=20_000, max_bytes=10**9, in_order=True)
    rig.store.close_gate()
    order: list[int] = []
    for number in range(30):
        rig.put(*numbered(100)).add_done_callback(partial(lambda number, _: order.append(number), number))
    await turns()
    assert rig.store.batches == [500] * 4

    rig.store.open_gate()
    rig.inbox.close()
    await rig.running
    await turns()
    assert rig.store.batches == [500] * 6
    assert order == list(range(30))


async def test_only_what_waits_makes_the_store_get_a_group_beforehand(make: Make) -> None:
    """Two hundred that wait are too few for a group of their own; what is being committed does not count."""
    rig = make(max_events=20_000, max_bytes=10**9, in_order=True)
    rig.store.close_gate()
    rig.put(*numbered(1000))
    await rig.store.begun()
    rig.put(*numbered(200))
    await turns()
    assert rig.store.batches == [1000]
    rig.store.open_gate()


@pytest.mark.parametrize(
    ("in_order", "held", "submissions", "first"),
    [(True, False, 7, 500), (True, True, 30, 500), (False, False, 30, 1000)],
)
async def test_otherwise_a_group_waits_for_the_one_before(
    make: Make, in_order: bool, held: bool, submissions: int, first: int
) -> None:
    """Little gathers for a larger group; what is held, or a store without order, has one group under way."""
    rig = make(max_events=20_000, max_bytes=10**9, in_order=in_order)
    rig.store.close_gate()
    for _ in range(submissions):
        rig.put(*numbered(100), held=held)
    await turns()
    assert rig.store.batches == [first]

    rig.store.open_gate()
    rig.inbox.close()
    await rig.running
    assert sum(rig.store.batches) == submissions * 100
    assert rig.waiting() == 0


async def test_of_two_groups_under_way_each_is_settled_by_its_own_fate(make: Make) -> None:
    """The store fails at the first and commits the second: who is in the second, or comes later, is stored."""
    rig = make(max_events=20_000, max_bytes=10**9, in_order=True)
    rig.store.close_gate()
    senders = [rig.send(*numbered(100, start)) for start in range(0, 1000, 100)]
    await turns()
    assert rig.store.batches == [500, 500]
    attempts = 0

    def away_once(records: Sequence[Record]) -> Sequence[Outcome]:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise StoreUnavailable("gone")
        return [STORED] * len(records)

    rig.store.decide = away_once
    rig.store.open_gate()

    assert await asyncio.gather(*senders) == [[DEFERRED] * 100] * 5 + [[STORED] * 100] * 5
    assert await rig.send(an_event()) == [STORED]
    assert rig.waiting() == 0


async def test_what_was_held_holds_nothing_back_once_it_is_settled(make: Make) -> None:
    """After held records are committed, the store is given groups beforehand again."""
    rig = make(max_events=20_000, max_bytes=10**9, in_order=True)
    rig.put(*numbered(100), held=True)
    await turns()
    assert len(rig.settled) == 1

    rig.store.close_gate()
    for start in range(0, 1000, 100):
        rig.put(*numbered(100, start))
    await turns()
    assert rig.store.batches == [100, 500, 500]


async def test_a_commit_takes_from_the_hand_over_to_its_end(make: Make) -> None:
    """The wait for the commit before counts where the store had the group beforehand, and not where it was queued."""
    now = 0.0
    rig = make(max_events=20_000, max_bytes=10**9, in_order=True, clock=lambda: now)
    rig.store.close_gate()
    for start in range(0, 1100, 100):
        rig.put(*numbered(100, start))
    await turns()
    assert rig.store.batches == [500, 500]

    now = 2.0
    rig.store.open_gate()
    rig.inbox.close()
    await rig.running
    assert rig.store.batches == [500, 500, 100]
    assert rig.registry.get_sample_value("headrace_commit_seconds_sum") == 2.0 + 2.0 + 0.0
