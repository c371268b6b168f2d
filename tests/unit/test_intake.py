"""One source's way in: every record gets one outcome, and every outcome is counted once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from ingest.errors import StoreUnavailable, TooLarge
from ingest.event import DUPLICATES, EchoOutcome, Event, HookEcho, Outcome, Record, Reject
from ingest.inbox import Inbox
from ingest.intake import SourceIntake
from ingest.metrics import Metrics
from tests.support.gated_store import Decide, GatedStore, as_sent
from tests.support.records import NOW, a_reject, an_event, an_ignored
from tests.support.virtual_time import in_virtual_time

WEBHOOK = {"source": "fleet", "mode": "webhook"}
SIX = ("stored", "duplicate", "rejected", "ignored", "deferred", "in_flight")


class Rig:
    """An intake on an inbox on a store that decides as it is told."""

    def __init__(self, decide: Decide = as_sent, *, max_events: int = 1000, patience_seconds: float = 5.0) -> None:
        self.metrics = Metrics(CollectorRegistry())
        self.store = GatedStore(decide)
        self.inbox = Inbox(
            self.store,
            self.metrics,
            max_events=max_events,
            max_bytes=10**9,
            patience_seconds=patience_seconds,
        )
        self.intake = SourceIntake(self.inbox, self.metrics, "fleet", "webhook")
        self.running = asyncio.create_task(self.inbox.run())

    def value(self, name: str, **labels: str) -> float | None:
        """A sample of the source."""
        return self.metrics.registry.get_sample_value(f"headrace_{name}", WEBHOOK | labels)

    async def drain(self) -> None:
        """End the inbox."""
        self.inbox.close()
        await self.running


def possible_outcomes(record: Record) -> list[Outcome]:
    """What a store may say of a record."""
    if isinstance(record, Event):
        return [Outcome.STORED, Outcome.REJECTED, *sorted(DUPLICATES)]
    return [Outcome.REJECTED if isinstance(record, Reject) else Outcome.IGNORED]


@settings(max_examples=150, deadline=None)
@given(
    submissions=st.lists(
        st.lists(st.sampled_from([an_event(), a_reject(), an_ignored()]), max_size=4), min_size=1, max_size=8
    ),
    actions=st.lists(st.sampled_from(["cancel", "open", "close", "turn", "drain"]), max_size=20),
    failures=st.lists(st.sampled_from([None, None, StoreUnavailable(), ZeroDivisionError()]), max_size=5),
    chance=st.integers().map(Random),
)
def test_received_is_the_sum_of_the_six(
    submissions: list[list[Record]], actions: list[str], failures: list[Exception | None], chance: Random
) -> None:
    """At every moment, under any outcomes, failures, hang-ups and lack of room: received = the sum of the six."""

    def decide(records: Sequence[Record]) -> Sequence[Outcome]:
        if failures and (failure := failures.pop()) is not None:
            raise failure
        return [chance.choice(possible_outcomes(record)) for record in records]

    with capture_logs():  # rendering each failure's traceback would take most of the time
        _scenario(submissions, actions, decide, chance)


@in_virtual_time
async def _scenario(submissions: list[list[Record]], actions: list[str], decide: Decide, chance: Random) -> None:
    rig = Rig(decide, max_events=6, patience_seconds=0.01)
    rig.store.close_gate()
    senders: list[asyncio.Task[Sequence[Outcome]]] = []
    for records in submissions:
        senders.append(asyncio.create_task(rig.intake.settle(records)))
        await asyncio.sleep(0)
        balanced(rig)
    steps: dict[str, Callable[[], object]] = {
        "cancel": lambda: chance.choice(senders).cancel(),
        "open": rig.store.open_gate,
        "close": rig.store.close_gate,
        "turn": lambda: None,
        "drain": rig.inbox.close,
    }
    for action in actions:
        steps[action]()
        await asyncio.sleep(0)
        balanced(rig)
    rig.store.open_gate()
    answers = await asyncio.gather(*senders, return_exceptions=True)
    await rig.drain()

    counts = balanced(rig)
    assert counts["in_flight"] == 0
    assert counts["received"] == sum(map(len, submissions))
    for records, answer in zip(submissions, answers, strict=True):
        assert isinstance(answer, asyncio.CancelledError) or not isinstance(answer, BaseException)
        assert isinstance(answer, BaseException) or len(answer) == len(records)


def balanced(rig: Rig) -> dict[str, int]:
    """The counts, which must balance."""
    counts = rig.metrics.counts("fleet", "webhook")
    assert counts["received"] == sum(counts[name] for name in SIX)
    return counts


async def test_every_outcome_has_its_counter() -> None:
    """Each outcome, duplicate kind and reject reason is counted under its own name, once."""
    told = [*DUPLICATES, Outcome.STORED, Outcome.REJECTED, Outcome.REJECTED, Outcome.IGNORED]
    rig = Rig(lambda records: told)

    await rig.intake.settle([*[an_event()] * 6, a_reject(), an_ignored()])
    await rig.drain()

    assert rig.value("events_received_total") == 8
    assert rig.value("events_stored_total") == 1
    assert rig.value("events_ignored_total") == 1
    assert rig.value("events_rejected_total", reason="malformed_json") == 1
    assert rig.value("events_rejected_total", reason="refused_by_store") == 1
    for kind in ("redelivery", "overlap", "redundant", "resend"):
        assert rig.value("events_duplicate_total", kind=kind) == 1
    assert rig.value("ack_seconds_count") == 1


async def test_echoes_are_counted_when_they_are_settled() -> None:
    """By outcome, beside the arrival that is ignored; one that was deferred was not heard yet."""
    rig = Rig(lambda records: told.pop())
    told = [[Outcome.IGNORED] * 3, [Outcome.DEFERRED]]
    sent, skipped = (an_ignored(HookEcho("loc", outcome)) for outcome in (EchoOutcome.SENT, EchoOutcome.SKIPPED))

    await rig.intake.settle([sent])
    await rig.intake.settle([sent, skipped, an_ignored()])
    await rig.drain()

    assert rig.value("events_ignored_total") == 3
    for outcome, count in (("sent", 1), ("skipped", 1), ("response", 0), ("error", 0)):
        assert rig.value("hook_echoes_total", outcome=outcome) == count


async def test_in_flight_is_what_is_not_settled_yet() -> None:
    """The gauge rises when records are taken and falls when they are settled, also for a sender that hung up."""
    rig = Rig()
    rig.store.close_gate()
    sender = asyncio.create_task(rig.intake.settle([an_event(), an_event("b")]))
    await rig.store.begun()
    assert rig.value("events_in_flight") == 2
    sender.cancel()
    await asyncio.gather(sender, return_exceptions=True)
    assert rig.value("events_in_flight") == 2

    with capture_logs() as logged:
        rig.store.open_gate()
        await rig.drain()
    assert (rig.value("events_in_flight"), rig.value("events_stored_total")) == (0, 2)
    assert logged == []


async def test_what_can_never_fit_is_no_arrival() -> None:
    """A request that is refused as too large is not counted as received."""
    rig = Rig(max_events=1)

    with pytest.raises(TooLarge):
        await rig.intake.settle([an_event(), an_event()])
    assert (rig.value("events_received_total"), rig.value("events_in_flight")) == (0, 0)
    await rig.drain()


async def test_nothing_is_settled_without_the_store() -> None:
    """An empty request needs no commit and has no outcomes."""
    rig = Rig()

    assert list(await rig.intake.settle([])) == []
    await rig.drain()
    assert rig.store.batches == []
    assert rig.intake.last_seen().event_at is None


async def test_transit_is_observed_for_new_events_that_say_when_they_were_sent() -> None:
    """Published to received, never negative, and only for what was stored and has a time."""
    rig = Rig()
    await rig.intake.settle(
        [
            an_event(received_at=NOW + timedelta(seconds=2)),
            an_event(received_at=NOW - timedelta(seconds=30)),  # a sender's clock that is ahead
            an_event(published_at=None),
            a_reject(),
        ]
    )
    await rig.drain()

    assert (rig.value("transit_seconds_count"), rig.value("transit_seconds_sum")) == (2, 2.0)
    assert rig.value("events_unidentified_total") == 1


async def test_the_last_event_is_absent_until_there_is_one() -> None:
    """A timestamp of zero would be an alarm; it appears with the first arrival."""
    rig = Rig()
    assert rig.value("source_last_event_timestamp_seconds") is None

    await rig.intake.settle([an_ignored()])
    await rig.drain()
    assert (rig.value("source_last_event_timestamp_seconds") or 0) > 1_700_000_000
