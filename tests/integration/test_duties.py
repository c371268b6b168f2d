"""The duties that one process does for all on a store, and what is shown of them elsewhere."""

from __future__ import annotations

import asyncio
from pathlib import Path

from app.auditor import FollowedSources
from app.duties import Duties
from app.settings import load
from ingest.counted_coverage import CountedCoverage
from ingest.leases import BALANCE
from storage.coverage import SqlCoverage
from tests.support.api import World
from tests.support.dispatching import real_time, until
from tests.support.given_leases import GivenLeases

GAUGE = "headrace_balance_difference_events"


async def test_the_balance_is_looked_at_by_who_has_its_lease(world: World, tmp_path: Path) -> None:
    """Elsewhere its gauge is absent."""
    settings = load(None, {"HEADRACE_STORE__URL": f"sqlite:///{tmp_path}/test.db"})
    coverage = CountedCoverage(SqlCoverage(world.database), world.metrics)
    leases = GivenLeases()
    duties = Duties(settings, FollowedSources({}), world.database, leases, world.metrics, coverage, real_time)
    running = asyncio.create_task(duties.run())
    await until(lambda: world.metrics.registry.get_sample_value(GAUGE) is None)
    leases.lease(BALANCE).change(held=True)
    await until(lambda: world.metrics.registry.get_sample_value(GAUGE) == 0)
    running.cancel()
    await asyncio.wait([running])
