"""A message is acknowledged when it is committed, at no other time; until then it is ours, and stays ours."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from ingest.event import Commit, Outcome, Record
from ingest.protocols import Store
from tests.support.pubsub_rig import PubsubRig, a_message, pubsub_rig

LONG_ENOUGH = 0.5  # for an acknowledgement that should not be sent: one that should takes a tenth


async def rule_nothing_is_acknowledged_on_hope(rig: PubsubRig) -> None:
    """While the commit is under way nothing is acknowledged; afterwards everything is, and is there."""
    rig.database.close_gate()
    messages = await rig.publish(*(a_message(f"t{number}") for number in range(20)))
    await rig.until_received(20)
    await asyncio.sleep(LONG_ENOUGH)
    too_early = dict(rig.proxy.acknowledged)
    rig.database.open_gate()

    assert not too_early
    await rig.until_acknowledged(messages)
    assert sorted(await rig.names()) == sorted(f"t{number}" for number in range(20))
    assert set(rig.proxy.acknowledged.values()) == {1}


async def test_nothing_is_acknowledged_on_hope(rig: PubsubRig) -> None:
    """The promise of the mode."""
    await rule_nothing_is_acknowledged_on_hope(rig)


class Hopeful:
    """A store that answers before it commits."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._late: list[asyncio.Task[Commit]] = []

    async def commit(self, records: Sequence[Record]) -> Commit:
        """Not what protocols.Store says."""
        self._late.append(asyncio.create_task(self._store.commit(records)))
        return Commit([Outcome.STORED] * len(records))


async def test_the_rule_notices_hope(tmp_path: Path) -> None:
    """The rule is worth something: acknowledging before the commit fails it."""
    async with pubsub_rig(tmp_path, spoil=Hopeful) as rig:
        await rig.until_up()
        with pytest.raises(AssertionError):
            await rule_nothing_is_acknowledged_on_hope(rig)


async def test_with_the_store_away_messages_are_held_and_leased(tmp_path: Path) -> None:
    """Nothing is given back or let go, leases are kept, the pull stops at its bound; then all is committed."""
    async with pubsub_rig(tmp_path, max_messages=50, quiet=0.4) as rig:
        await rig.until_up()
        rig.database.away = True
        # Few more than the bound: the emulator sends on regardless, and nobody leases what lies in grpc's buffers.
        messages = await rig.publish(*(a_message(f"t{number}") for number in range(60)))
        await rig.until(lambda: all(rig.proxy.extended[message] > 1 for message in messages))

        assert rig.counts()["in_flight"] == 50
        assert rig.counts()["deferred"] == 0
        assert not rig.proxy.acknowledged
        assert not rig.proxy.given_back
        assert rig.proxy.deadlines == {10}
        assert (rig.value("pubsub_oldest_unsettled_seconds") or 0) > 0
        assert rig.source.condition().up
        await rig.until(lambda: (rig.value("pubsub_oldest_unsettled_seconds") or 0) > 1)
        assert rig.proxy.pulls == 1, "what is held is no silence"

        rig.database.away = False
        await rig.until_acknowledged(messages)
        assert len(await rig.names()) == 60
        assert not rig.proxy.given_back
        # The client extends leases of ten seconds after up to nine: a busy machine may be late, and that shows.
        await rig.until(lambda: rig.counts()["duplicate"] == sum(rig.proxy.delivered.values()) - 60)
        assert max(rig.proxy.delivered.values()) <= 2
        await rig.until(lambda: rig.counts()["in_flight"] == 0)
        await rig.until(lambda: rig.value("pubsub_oldest_unsettled_seconds") == 0.0)


async def test_what_was_taken_is_acknowledged_before_the_source_ends(rig: PubsubRig) -> None:
    """Stopped while a commit is under way: it is committed and acknowledged, and then the source is over."""
    rig.database.close_gate()
    messages = await rig.publish(*(a_message(f"t{number}") for number in range(100)))
    await rig.until_received(100)

    stopping = asyncio.create_task(rig.stop())
    await asyncio.sleep(0.1)
    rig.database.open_gate()
    await stopping

    assert len(await rig.names()) == 100
    assert rig.proxy.acknowledged.keys() == set(messages)
    assert not rig.proxy.given_back


async def test_a_stop_under_load_costs_no_committed_message_its_acknowledgement(tmp_path: Path) -> None:
    """What is stored at the end was acknowledged; what was not taken went back at once, so that another may have it."""
    async with pubsub_rig(tmp_path, max_messages=300) as rig:
        await rig.until_up()
        publishing = asyncio.create_task(rig.publish(*(a_message(f"t{number}") for number in range(3000))))
        await rig.until(lambda: rig.counts()["stored"] > 500)
        await rig.stop()
        await publishing

        stored = await rig.names()
        assert 500 < len(stored) < 3000
        assert len(rig.proxy.acknowledged) == len(stored)
        assert set(rig.proxy.acknowledged.values()) == {1}
        untold = rig.proxy.delivered.keys() - rig.proxy.acknowledged.keys() - rig.proxy.given_back.keys()
        # Leases run out of those offered while the inbox closed, and of an answer on its way as the stream ends.
        on_its_way = len(untold) - rig.counts()["deferred"]
        assert 0 <= on_its_way <= 100, f"{on_its_way} are untold"
        assert rig.running.done()
        assert rig.proxy.open_streams == 0


async def test_after_a_pause_nothing_is_taken(rig: PubsubRig) -> None:
    """What comes now waits for somebody else, and is not acknowledged."""
    await rig.source.pause()
    await rig.publish(a_message("late"))
    await rig.until(rig.running.done)

    assert rig.counts()["received"] == 0
    assert not rig.proxy.acknowledged
    assert (rig.stream.state, rig.source.condition().up) == ("stopped", False)


async def test_a_source_that_is_cancelled_acknowledges_first(rig: PubsubRig) -> None:
    """Cancelled at any moment, even twice, it waits for outcomes and acknowledgements, in bounded time."""
    rig.database.close_gate()
    messages = await rig.publish(a_message("a"), a_message("b"))
    await rig.until_received(2)

    rig.running.cancel()
    await asyncio.sleep(0.1)
    assert not rig.running.done()
    rig.database.open_gate()
    await asyncio.gather(rig.running, return_exceptions=True)

    assert rig.running.cancelled()
    assert rig.proxy.acknowledged.keys() == set(messages)


async def test_a_stop_with_the_store_away_is_bounded_and_gives_nothing_back(tmp_path: Path) -> None:
    """What cannot be committed is let go, not nacked: it comes again when its lease is over."""
    async with pubsub_rig(tmp_path, drain_timeout=5.0) as rig:
        await rig.until_up()
        rig.database.away = True
        await rig.publish(*(a_message(f"t{number}") for number in range(10)))
        await rig.until_received(10)
        async with asyncio.timeout(4):
            await rig.stop()

        assert rig.counts()["deferred"] == 10
        assert not rig.proxy.given_back
        assert not rig.proxy.acknowledged


async def test_acknowledgements_that_do_not_get_through_hold_a_stop_up_only_so_long(tmp_path: Path) -> None:
    """Google may not answer; the process ends all the same, and the messages come again."""
    async with pubsub_rig(tmp_path, drain_timeout=0.2, threads=0.2) as rig:
        await rig.until_up()
        rig.proxy.exactly_once = True
        rig.proxy.hold_acknowledgements()
        await rig.publish(a_message())
        await rig.until(lambda: rig.counts()["stored"] == 1)
        async with asyncio.timeout(6):
            await rig.stop()
        assert rig.running.done()


async def test_an_exactly_once_acknowledgement_is_awaited(rig: PubsubRig) -> None:
    """Where Google answers them, a stop waits for the answers."""
    rig.proxy.exactly_once = True
    rig.proxy.hold_acknowledgements()
    messages = await rig.publish(a_message("a"), a_message("b"))
    await rig.until(lambda: rig.counts()["stored"] == 2)
    assert (rig.value("pubsub_oldest_unsettled_seconds") or 0) > 0

    stopping = asyncio.create_task(rig.stop())
    done, _ = await asyncio.wait([stopping], timeout=LONG_ENOUGH)
    assert not done
    rig.proxy.release_acknowledgements()
    await stopping

    assert rig.proxy.acknowledged.keys() == set(messages)
    assert rig.value("pubsub_ack_failures_total") == 0


async def test_an_acknowledgement_that_fails_is_counted_and_harmless(rig: PubsubRig) -> None:
    """The message comes again, and is a duplicate; its neighbours are acknowledged."""
    failed: list[str] = []

    def once(ack_ids: Sequence[str]) -> Mapping[str, str]:
        if failed:
            return {}
        failed.append(ack_ids[0])
        return {ack_ids[0]: "PERMANENT_FAILURE_INVALID_ACK_ID"}

    rig.proxy.exactly_once = True
    rig.proxy.refuse = once
    await rig.publish(a_message("a"))
    await rig.until(lambda: rig.value("pubsub_ack_failures_total") == 1)
    messages = await rig.publish(a_message("b"))
    await rig.until_acknowledged(messages)

    assert await rig.names() == ["a", "b"]
    assert rig.source.condition().up
    await rig.until(lambda: rig.value("pubsub_oldest_unsettled_seconds") == 0.0)


async def test_a_transient_failure_is_tried_again(rig: PubsubRig) -> None:
    """Google says which failures pass; the client sends those acknowledgements once more, after a second."""
    told: list[str] = []

    def once(ack_ids: Sequence[str]) -> Mapping[str, str]:
        told.extend(ack_ids)
        return {} if len(told) > 1 else {ack_ids[0]: "TRANSIENT_FAILURE_SERVICE_UNAVAILABLE"}

    rig.proxy.exactly_once = True
    rig.proxy.refuse = once
    messages = await rig.publish(a_message("a"))
    await rig.until_acknowledged(messages)
    await rig.stop()

    assert rig.value("pubsub_ack_failures_total") == 0


async def test_a_whole_life_leaves_nothing_in_the_log(rig: PubsubRig, caplog: pytest.LogCaptureFixture) -> None:
    """Neither Google's threads nor grpc's complain when the source ends."""
    with caplog.at_level(logging.WARNING):
        messages = await rig.publish(a_message())
        await rig.until_acknowledged(messages)
        await rig.stop()

    assert caplog.records == []
