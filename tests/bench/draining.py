"""How fast a spool is drained into PostgreSQL: `python -m tests.bench.draining [RECORDS] [GROUP]`."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from prometheus_client import CollectorRegistry

from ingest.event import Event
from ingest.intake_metrics import IntakeAccounts
from ingest.metrics import Metrics
from storage.engine import open_database
from storage.health import WatchedStore
from storage.migrate import migrate, require_newest
from storage.spool import SpooledStore
from storage.spool_file import SpoolFile
from storage.store import SqlStore
from tests.support.gated_database import GatedDatabase
from tests.support.postgres import debian_server
from tests.support.records import an_event


def _events(count: int, start: int) -> list[Event]:
    began = datetime(2026, 7, 28, tzinfo=UTC)
    return [
        an_event(device=f"e00fce68{number % 1000:016x}", data=b"%0200d" % number,
                 published_at=began + timedelta(milliseconds=number))
        for number in range(start, start + count)
    ]  # fmt: skip


async def drain(records: int, group: int, folder: Path) -> tuple[float, float]:
    """Fill a spool and drain it; return the records a second of both."""
    database = open_database(debian_server().fresh_database())
    await migrate(database)
    gated = GatedDatabase(database)
    store = SpooledStore(
        lambda: SqlStore(gated, lambda: datetime.now(UTC)),
        SpoolFile(folder / "spool.db"),
        IntakeAccounts(Metrics(CollectorRegistry())),
        lambda: datetime.now(UTC),
        watched=WatchedStore(SqlStore(gated, lambda: datetime.now(UTC)), gated).watched,
        prepare=lambda: require_newest(gated),
    )
    gated.away = True
    await store.open()
    draining = asyncio.create_task(store.run())
    batches = [_events(group, start) for start in range(0, records, group)]
    began = time.perf_counter()
    for batch in batches:
        await store.commit(batch)
    kept = records / (time.perf_counter() - began)
    gated.away = False
    began = time.perf_counter()
    while store.state().records:  # noqa: ASYNC110 - it tells nobody
        await asyncio.sleep(0.001)
    drained = records / (time.perf_counter() - began)
    draining.cancel()
    await store.close()
    await database.close()
    return kept, drained


def main() -> None:
    """Measure, and print both rates."""
    records, group = (int(number) for number in (*sys.argv[1:], "200000", "200")[:2])
    with tempfile.TemporaryDirectory() as folder:
        kept, drained = asyncio.run(drain(records, group, Path(folder)))
    print(f"groups of {group}: {kept:,.0f} records/s into the spool, {drained:,.0f} out of it")


if __name__ == "__main__":
    main()
