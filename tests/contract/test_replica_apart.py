"""What a process shares with others has connections of its own: no other work holds it up."""

from __future__ import annotations

import asyncio

from sqlalchemy import Connection

from app.replicas import make_replica
from ingest.event import Origin
from storage.engine import Database
from tests.support.fresh import POSTGRES
from tests.support.server import PATIENCE_SECONDS

STORES = [POSTGRES]
_POOL = 10  # connections that write, at most


def _sleep(connection: Connection) -> None:
    connection.exec_driver_sql("SELECT pg_sleep(60)")


async def test_a_full_pool_loses_no_lease(database: Database, url: str) -> None:
    """Where each connection of the ingestion waits for something, leases are taken and coverage goes on."""
    replica = make_replica(database, url)
    wanted = replica.leases.lease("handler/h")
    waiting = [asyncio.create_task(database.write(_sleep)) for _ in range(_POOL + 2)]
    leasing = asyncio.create_task(replica.leases.run())
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await asyncio.sleep(0)
            await wanted.acquired()
            opened = await replica.coverage.open(Origin("tracker", "fleet", "sse"), 1)
            await replica.coverage.extend(opened.interval)
        assert not any(task.done() for task in waiting[:_POOL])
    finally:
        for task in (*waiting, leasing):
            task.cancel()
        await asyncio.gather(*waiting, leasing, return_exceptions=True)
        await replica.close()
