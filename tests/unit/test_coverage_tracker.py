"""What is proven about a connection: never more than the bytes, the settlements and the pauses allow."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ingest.event import Cause, Outcome
from ingest.sources.sse.coverage_tracker import HELD_SECONDS, CoverageTracker

Span = tuple[float, float, Cause | None]
LATENCY = 0.25


def spans(listening: CoverageTracker) -> list[Span]:
    """What is known."""
    return [(span.began, span.proven, span.cause) for span in listening.spans]


def caught_up(listening: CoverageTracker, at: float) -> None:
    """A look at that time, and a byte right after it."""
    reads[0] += 1
    listening.sample(at, reads[0], LATENCY)
    reads[0] += 1
    listening.confirm(reads[0])


reads = [0]


class Settled:
    """Outcomes to come."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []

    def done(self) -> bool:
        """Return whether they are there."""
        return bool(self.outcomes)

    def result(self) -> Sequence[Outcome]:
        """Return them."""
        return self.outcomes


def offered(listening: CoverageTracker) -> Settled:
    """Offer a batch; its outcomes to come."""
    settled = Settled()
    listening.offered(settled)
    return settled


def settle(listening: CoverageTracker, settled: Settled, *, durable: bool) -> None:
    """Settle a batch, and have it noted."""
    settled.outcomes.append(Outcome.STORED if durable else Outcome.DEFERRED)
    listening.advance()


def test_nothing_is_proven_at_first() -> None:
    """The answer alone is a beginning, and no time at all."""
    assert spans(CoverageTracker(1, 100.0)) == [(100.0, 100.0, None)]


def test_a_look_is_proven_by_a_later_byte() -> None:
    """Less what may have been on its way. The byte itself may have lain there: it proves no later instant."""
    listening = CoverageTracker(1, 100.0)
    listening.sample(110.0, 5, LATENCY)
    listening.sample(115.0, 5, LATENCY)
    listening.confirm(5)
    assert spans(listening) == [(100.0, 100.0, None)]
    listening.confirm(6)
    listening.confirm(7)
    assert spans(listening) == [(100.0, 115.0 - LATENCY, None)]


def test_a_stall_is_never_proven() -> None:
    """Looks that find nothing are no proof: the end stays where the last byte proved a look."""
    listening = CoverageTracker(1, 100.0)
    caught_up(listening, 110.0)
    for second in range(111, 130):
        listening.sample(float(second), reads[0], LATENCY)
    listening.confirm(reads[0])
    listening.over(Cause.IDLE)
    assert spans(listening) == [(100.0, 110.0 - LATENCY, Cause.IDLE)]


def test_what_is_read_counts_when_it_is_durable() -> None:
    """The proof waits for its batches, in whatever order they are settled."""
    listening = CoverageTracker(1, 100.0)
    batches = [offered(listening) for _ in range(3)]
    caught_up(listening, 110.0)
    late = offered(listening)
    caught_up(listening, 120.0)
    for batch in (batches[2], batches[0]):
        settle(listening, batch, durable=True)
        assert listening.proven == 100.0
    settle(listening, batches[1], durable=True)
    assert listening.proven == 110.0 - LATENCY
    settle(listening, late, durable=True)
    assert listening.proven == 120.0 - LATENCY


def test_what_was_given_up_is_never_proven() -> None:
    """A batch that was deferred is lost: nobody sends it again."""
    listening = CoverageTracker(1, 100.0)
    first, second, third = (offered(listening) for _ in range(3))
    settle(listening, first, durable=True)
    settle(listening, second, durable=False)
    settle(listening, third, durable=True)
    caught_up(listening, 110.0)
    listening.over(Cause.STOPPED)
    assert spans(listening) == [(100.0, 100.0, Cause.STOPPED)]


def test_the_end_waits_for_what_was_read() -> None:
    """A connection that is over is not over with its events: its end moves on until they are settled."""
    listening = CoverageTracker(1, 100.0)
    batch = offered(listening)
    caught_up(listening, 110.0)
    listening.over(Cause.CLOSED)
    assert spans(listening) == [(100.0, 100.0, None)]
    settle(listening, batch, durable=True)
    assert spans(listening) == [(100.0, 110.0 - LATENCY, Cause.CLOSED)]


def held(listening: CoverageTracker, until: float) -> None:
    """A hold by waiting for the inbox."""
    listening.waited(HELD_SECONDS + 0.1, until)


def test_a_hold_parts_the_time() -> None:
    """Before it up to what was proven, after it from the first look that is proven; between them nothing."""
    listening = CoverageTracker(1, 100.0)
    caught_up(listening, 110.0)
    held(listening, 130.0)
    assert listening.held
    caught_up(listening, 129.9)  # before the hold was over
    caught_up(listening, 140.0)
    caught_up(listening, 150.0)
    assert spans(listening) == [
        (100.0, 110.0 - LATENCY, Cause.OVERFLOW),
        (140.0, 150.0 - LATENCY, None),
    ]


def test_what_was_read_before_a_hold_may_be_settled_after_it() -> None:
    """The last proof before and the first after survive however long nothing is settled."""
    listening = CoverageTracker(1, 100.0)
    batch = offered(listening)
    for second in range(101, 110):
        caught_up(listening, float(second))
    held(listening, 130.0)
    for second in range(140, 150):
        caught_up(listening, float(second))
    settle(listening, batch, durable=True)
    assert spans(listening) == [
        (100.0, 109.0 - LATENCY, Cause.OVERFLOW),
        (140.0, 149.0 - LATENCY, None),
    ]


def test_a_connection_lost_in_a_hold_was_deaf_since_the_hold() -> None:
    """That is the cause, whatever broke the connection later."""
    listening = CoverageTracker(1, 100.0)
    caught_up(listening, 110.0)
    held(listening, 130.0)
    listening.over(Cause.ERROR)
    assert spans(listening) == [(100.0, 110.0 - LATENCY, Cause.OVERFLOW)]


def test_short_waits_add_up_until_the_reader_has_caught_up() -> None:
    """Upstream's buffers fill as well in many short pauses as in one long one; and are empty when ours are."""
    listening = CoverageTracker(1, 100.0)
    listening.waited(0.2, 101.0)
    caught_up(listening, 102.0)
    listening.waited(0.2, 103.0)
    assert not listening.held
    listening.waited(0.1, 104.0)
    assert listening.held


def test_waits_for_the_processor_are_none() -> None:
    """A busy machine is no full inbox."""
    listening = CoverageTracker(1, 100.0)
    for _ in range(1000):
        listening.waited(0.005, 101.0)
    assert not listening.held


def remembered(looks: int) -> int:
    """Return how many bytes are kept while nothing is settled: so many proven looks before each of ten holds."""
    tracemalloc.start()
    try:
        listening = CoverageTracker(1, 100.0)
        offered(listening)
        for hold in range(1, 11):
            for look in range(looks):
                caught_up(listening, 1000.0 * hold + look)
            held(listening, 1000.0 * hold + looks)
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def test_what_is_remembered_does_not_grow_with_time() -> None:
    """Of a stretch between holds the first and the last proof are enough, however long nothing is settled."""
    assert remembered(900) < 2 * remembered(2)


class AnyOrder(RuleBasedStateMachine):
    """Whatever happens in whatever order, the spans cover nothing that a plain account of it does not allow."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.listening = CoverageTracker(1, 0.0)
        self.open: list[tuple[int, Settled]] = []  # batches by number
        self.durable: set[int] = set()
        self.offered = 0
        self.reads = 0
        self.last_look: tuple[float, int] | None = None  # when, and how many batches had been offered
        self.looks: list[tuple[float, int]] = []  # those that a byte followed
        self.holds: list[tuple[float, float]] = []  # from the last look before to the end of it
        self.over = False

    def later(self) -> float:
        """The next instant."""
        self.now += 1.0
        return self.now

    @rule()
    def read(self) -> None:
        """A batch is offered."""
        if not self.over:
            self.later()
            self.offered += 1
            self.open.append((self.offered, offered(self.listening)))

    @rule(data=st.data(), durable=st.sampled_from([True, True, True, False]))
    def settle(self, data: Any, durable: bool) -> None:
        """A batch is settled."""
        if self.open:
            batch = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
            settle(self.listening, batch[1], durable=durable)
            if durable:
                self.durable.add(batch[0])

    @rule()
    def look(self) -> None:
        """All is read."""
        if not self.over:
            self.last_look = (self.later(), self.offered)
            self.listening.sample(self.now, self.reads, LATENCY)

    @rule()
    def hear(self) -> None:
        """A byte comes."""
        if not self.over:
            self.reads += 1
            self.listening.confirm(self.reads)
            if self.last_look is not None:
                self.looks.append(self.last_look)
                self.last_look = None

    @rule()
    def hold(self) -> None:
        """Reading was held."""
        if not self.over:
            began = self.last_look[0] if self.last_look else self.looks[-1][0] if self.looks else 0.0
            self.listening.hold(self.later())
            self.holds.append((began, self.now))

    @rule()
    def end(self) -> None:
        """The connection is over."""
        self.over = True
        self.listening.over(Cause.ERROR)

    @invariant()
    def nothing_is_made_up(self) -> None:
        """Ends are proven by a durable look; spans do not touch a hold; only the last is open."""
        durable = 0
        while durable + 1 in self.durable:
            durable += 1
        allowed = {at for at, offered in self.looks if offered <= durable}
        found = spans(self.listening)
        for began, proven, _ in found:
            assert proven == began or proven + LATENCY in allowed
            assert began == 0.0 or began in allowed
            for since, until in self.holds:
                assert proven <= since or began >= until
        assert all(cause is Cause.OVERFLOW for _, _, cause in found[:-1])
        if not self.over:
            assert found[-1][2] is None

    @invariant()
    def nothing_is_forgotten(self) -> None:
        """Without holds, the last durable look is what is proven."""
        if self.holds:
            return
        durable = 0
        while durable + 1 in self.durable:
            durable += 1
        allowed = [at for at, offered in self.looks if offered <= durable]
        kept = allowed[-1] - LATENCY if allowed else 0.0
        # Of many looks that wait, the first and the last are kept: at most what lies between them is not yet proven.
        if not self.open:
            assert self.listening.proven == kept or len(self.durable) < self.offered
        assert self.listening.proven <= kept


AnyOrder.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestAnyOrder = AnyOrder.TestCase


@pytest.mark.parametrize("cause", [Cause.IDLE, Cause.CLOSED])
def test_an_end_is_told_once(cause: Cause) -> None:
    """The first cause is the one."""
    listening = CoverageTracker(1, 100.0)
    listening.over(cause)
    listening.over(Cause.STOPPED)
    assert spans(listening) == [(100.0, 100.0, cause)]
