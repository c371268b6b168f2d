"""Streams whose leases come and go: who holds none stands by, and who lost one listens until another does."""

from __future__ import annotations

import asyncio

from ingest.event import Cause
from ingest.leases import stream_lease
from tests.support.given_leases import GivenLeases
from tests.support.sse_rig import SseRig, hasty, sse_rig
from tests.support.sse_upstream import SseUpstream

FIRST, SECOND = stream_lease("fleet", 1), stream_lease("fleet", 2)


async def test_who_holds_no_lease_stands_by(upstream: SseUpstream) -> None:
    """Nothing is opened, and it is no fault; with the lease it listens at once."""
    leases = GivenLeases()
    async with sse_rig(hasty(upstream.url, streams=2), leases=leases) as rig:
        await rig.until(lambda: len(leases.known) == 2)
        condition = rig.source.condition()
        assert (condition.up, condition.standby, list(condition.streams)) == (False, True, [])
        assert upstream.requests == []
        leases.lease(SECOND).change(held=True)
        await rig.until_up()
        assert [state.stream for state in rig.source.condition().streams] == [2]
        assert not rig.source.condition().standby


async def test_who_lost_a_lease_listens_until_another_does(upstream: SseUpstream) -> None:
    """Events come in all the time; the connection is left when the other is proven."""
    leases = GivenLeases(FIRST)
    async with sse_rig(hasty(upstream.url), leases=leases) as rig:
        channel = await upstream.channel()
        await rig.until_up()
        leases.lease(FIRST).change(held=False)
        await rig.until(lambda: rig.coverage.calls.count("is_relieved") > 2)
        await channel.event("temp", 1)
        await rig.until(lambda: rig.numbers == [1])
        rig.coverage.relieved = True
        await channel.left.wait()
        await rig.until(lambda: rig.source.condition().standby)
        await rig.until(lambda: rig.coverage.causes == [Cause.STOPPED])


async def test_who_has_its_lease_back_goes_on(upstream: SseUpstream) -> None:
    """On the same connection."""
    leases = GivenLeases(FIRST)
    async with sse_rig(hasty(upstream.url), leases=leases) as rig:
        channel = await upstream.channel()
        await rig.until_up()
        leases.lease(FIRST).change(held=False)
        await rig.until(lambda: rig.coverage.calls.count("is_relieved") > 2)
        leases.lease(FIRST).change(held=True)
        rig.coverage.relieved = True
        await channel.event("temp", 1)
        await rig.until(lambda: rig.numbers == [1])
        assert len(upstream.requests) == 1
        assert not channel.left.is_set()


async def stopping(rig: SseRig) -> asyncio.Task[None]:
    """Begin to stop, as the service does: its leases are given back before."""
    await rig.until_up()
    rig.leases.lease(FIRST).change(held=False)
    return asyncio.create_task(rig.source.pause())


async def test_a_stop_waits_until_another_listens(upstream: SseUpstream) -> None:
    """Where there is another; for a while."""
    async with sse_rig(hasty(upstream.url), leases=GivenLeases(FIRST)) as rig:
        channel = await upstream.channel()
        pausing = await stopping(rig)
        await rig.until(lambda: rig.coverage.calls.count("is_relieved") > 2)
        assert not pausing.done()
        assert not channel.left.is_set()
        rig.coverage.relieved = True
        await pausing
        await channel.left.wait()


async def test_a_stop_waits_for_nobody_who_is_not_there(upstream: SseUpstream) -> None:
    """The last one of several leaves as a single one does."""
    leases = GivenLeases(FIRST)
    async with sse_rig(hasty(upstream.url), leases=leases) as rig:
        channel = await upstream.channel()
        pausing = await stopping(rig)
        await rig.until(lambda: rig.coverage.calls.count("is_relieved") > 0)
        leases.peers = 0
        await pausing
        await channel.left.wait()
