"""Faults of ours around a commit: they cost those at fault, never the others and never the committer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from ingest.errors import StoreUnavailable
from ingest.event import Commit, Event, Outcome, Record
from tests.support.gated_store import as_sent
from tests.support.records import an_event, numbered
from tests.unit.test_inbox import Rig, turns

STORED, DEFERRED = Outcome.STORED, Outcome.DEFERRED


def all_but_bad(records: Sequence[Record]) -> list[Outcome]:
    """A store that fails, by no outage, wherever the event `bad` is among them."""
    if any(isinstance(record, Event) and record.name == "bad" for record in records):
        raise ZeroDivisionError
    return as_sent(records)


async def test_a_fault_defers_the_submission_that_has_it_and_no_other() -> None:
    """A group that fails for a fault of ours is tried again by single submissions, in their order, held ones too."""
    rig = Rig()
    first = await rig.busy()
    rig.store.decide = all_but_bad
    senders = [
        *(rig.send(*numbered(2)), rig.send(an_event("bad"), an_event("with it"))),
        *(rig.send(*numbered(2, 2), held=True), rig.send(an_event())),
    ]
    await turns()
    rig.store.open_gate()

    assert await first == [STORED]
    assert await asyncio.gather(*senders) == [[STORED] * 2, [DEFERRED] * 2, [STORED] * 2, [STORED]]
    assert rig.store.batches == [1, 7, 2, 2, 2, 1]
    assert rig.waiting() == 0
    together = [rig.put(an_event()) for _ in range(3)]
    rig.inbox.close()
    await rig.running
    assert [settled.result() for settled in together] == [[STORED]] * 3
    assert rig.store.batches[6:] == [3]


async def test_an_outage_amid_what_is_tried_alone_is_an_outage() -> None:
    """What is not held is deferred at once, and the inbox goes on when the store is back."""
    rig = Rig(retry_seconds=0.01)
    first = await rig.busy()
    attempts = 0

    def fault_then_outage(records: Sequence[Record]) -> list[Outcome]:
        nonlocal attempts
        attempts += 1
        if attempts == 2:
            raise ZeroDivisionError
        if attempts == 4:
            raise StoreUnavailable("gone")
        return as_sent(records)

    rig.store.decide = fault_then_outage
    senders = [rig.send(an_event()), rig.send(an_event()), rig.send(an_event(), held=True)]
    await turns()
    rig.store.open_gate()

    assert await first == [STORED]
    assert await asyncio.gather(*senders) == [[STORED], [DEFERRED], [STORED]]
    rig.inbox.close()
    await rig.running


async def test_a_fault_in_publishing_costs_no_sender_anything() -> None:
    """What is committed is acknowledged, and the next commit takes place and is published."""
    rig = Rig()
    publish = rig.inbox._publish

    def fail(_commit: Commit, _size: int) -> None:
        raise ZeroDivisionError

    rig.inbox._publish = fail
    assert await rig.send(an_event()) == [STORED]
    await turns()
    rig.inbox._publish = publish
    assert await rig.send(an_event()) == [STORED]
    rig.inbox.close()
    await rig.running
    assert len(rig.published) == 1
