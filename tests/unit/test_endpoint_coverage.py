"""The record that an endpoint listens, in a process that wakes after a suspension."""

from __future__ import annotations

import asyncio

from ingest.endpoint_coverage import EndpointCoverage, EndpointCoverageRules
from ingest.event import Cause, Origin
from tests.support.recording_coverage import RecordingCoverage
from tests.support.virtual_time import in_virtual_time, virtual_loop

FLEET = Origin("tracker", "fleet", "webhook")


@in_virtual_time
async def test_whoever_runs_first_after_a_suspension_notices_it() -> None:
    """No interval reaches beyond the last look before it, whichever task the event loop wakes first."""
    suspended_seconds = 0.0

    def clock() -> float:
        return virtual_loop().time() + suspended_seconds

    for at in range(3, 13):
        coverage = RecordingCoverage(clock)
        task = asyncio.create_task(EndpointCoverage(coverage, FLEET, EndpointCoverageRules(), clock).run())
        await asyncio.sleep(at / 2)
        suspended_at = clock()
        suspended_seconds += 60.0
        await asyncio.sleep(5.0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

        before, after = coverage.intervals
        assert before.cause is Cause.DOWN
        assert before.until <= suspended_at
        assert after.since >= suspended_at + 60.0
