"""How long a sender waits, and for how much room, while the store does not answer: a bound on both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ingest.event import Outcome, Record
from tests.support.records import an_event, numbered
from tests.support.virtual_time import in_virtual_time, virtual_loop
from tests.unit.test_inbox import Rig, turns

STORED, DEFERRED = Outcome.STORED, Outcome.DEFERRED


@asynccontextmanager
async def stopped_store(**options: object) -> AsyncIterator[Rig]:
    """An inbox whose store has begun to commit the record `first`, and does not answer; it does at the end."""
    rig = Rig(**({"max_events": 20_000} | options))
    await rig.busy()
    yield rig
    rig.store.open_gate()
    rig.inbox.close()
    await rig.running


def large(name: str) -> Record:
    """A record of about 10,000 bytes."""
    return an_event(name, data=b"x" * 9_000)


@in_virtual_time
async def test_a_sender_is_answered_whatever_the_store_does() -> None:
    """Under way, queued or come later: each is deferred after the same time, and none of them before."""
    async with stopped_store(answer_seconds=12.0) as rig:
        began = virtual_loop().time()
        answered_at: list[float] = []
        senders = []
        for _ in range(4):
            senders.append(rig.send(*numbered(2)))
            senders[-1].add_done_callback(lambda _: answered_at.append(virtual_loop().time() - began))
            await asyncio.sleep(5)

        assert await asyncio.gather(*senders) == [[DEFERRED] * 2] * 4
        assert answered_at == [12.0, 17.0, 22.0, 27.0]
        assert rig.settled[0] == [DEFERRED]  # the one that the store has
        assert rig.waiting() == 1  # the store still has it: its memory counts


@in_virtual_time
async def test_what_waited_for_room_is_answered_as_soon_as_the_rest() -> None:
    """The time in line is part of the sender's time."""
    async with stopped_store(max_events=2, patience_seconds=5.0, answer_seconds=12.0) as rig:
        began = virtual_loop().time()
        queued = rig.send(an_event("queued"))
        await asyncio.sleep(8)
        in_line = rig.send(an_event("in line"))  # has room when the queued one is answered

        assert await queued == [DEFERRED]
        assert await in_line == [DEFERRED]
        assert virtual_loop().time() == began + 8 + 12


@in_virtual_time
async def test_what_is_committed_after_all_stays_deferred_for_its_sender() -> None:
    """The counters say what the sender was told, once; the event is stored and goes to the handlers."""
    async with stopped_store(answer_seconds=12.0) as rig:
        await asyncio.sleep(13)
        assert rig.settled == [[DEFERRED]]
        rig.store.open_gate()
        await turns()

        assert rig.settled == [[DEFERRED]]
        assert [event.name for event in rig.published] == ["first"]
        assert rig.waiting() == 0
        labels = {"source": "fleet", "mode": "webhook"}
        assert rig.registry.get_sample_value("headrace_events_deferred_total", labels) == 1
        assert rig.registry.get_sample_value("headrace_events_stored_total", labels) == 0


@in_virtual_time
async def test_what_is_held_waits_without_limit() -> None:
    """An hour later it is still there, queued or in line, and is committed when the store answers."""
    async with stopped_store(max_events=3, answer_seconds=12.0) as rig:
        held, in_line = rig.send(*numbered(2), held=True), rig.send(*numbered(2, 2), held=True)
        sender = rig.send(an_event())
        assert await sender == [DEFERRED]
        await asyncio.sleep(3600)
        assert not held.done()
        assert not in_line.done()

        rig.store.open_gate()
        assert await held == await in_line == [STORED] * 2


@in_virtual_time
async def test_what_waits_for_room_counts_in_the_bound_of_bytes() -> None:
    """Where the inbox and those who wait hold as much as it may, the next one is deferred at once."""
    async with stopped_store(max_events=3, max_bytes=45_000) as rig:
        began = virtual_loop().time()
        queued = [rig.send(large(f"queued {number}")) for number in range(2)]
        in_line = [rig.send(large(f"in line {number}")) for number in range(2)]
        await turns()
        assert await rig.send(large("too much")) == [DEFERRED]
        assert virtual_loop().time() == began
        assert not any(sender.done() for sender in queued + in_line)

        await asyncio.sleep(4)
        rig.store.open_gate()
        assert await asyncio.gather(*queued, *in_line) == [[STORED]] * 4
        rig.store.close_gate()
        again = [rig.send(large(f"again {number}")) for number in range(4)]  # the line has given its room back
        await turns()
        assert not any(sender.done() for sender in again)


@in_virtual_time
async def test_who_lost_patience_in_line_gives_its_room_back() -> None:
    """Its bytes count no longer: another one may wait instead."""
    async with stopped_store(max_events=1, max_bytes=25_000, patience_seconds=5.0) as rig:
        for _ in range(3):
            waiting = [rig.send(large("one")), rig.send(large("two"))]
            await turns()
            assert not any(sender.done() for sender in waiting)
            assert await rig.send(large("three")) == [DEFERRED]
            assert await asyncio.gather(*waiting) == [[DEFERRED]] * 2
