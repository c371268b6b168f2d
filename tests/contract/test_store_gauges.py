"""The gauges of the store say what its database and its disk say, on both databases."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

from prometheus_client import CollectorRegistry

from ingest.metrics import Metrics
from storage.engine import Database
from storage.retention import Retention
from storage.store import SqlStore
from storage.store_gauges import StoreGauges
from tests.support.records import NOW, numbered


def shown(metrics: Metrics, name: str) -> float | None:
    """Return what a scraper reads; None where the gauge is absent."""
    return metrics.registry.get_sample_value(name)


async def test_the_store_is_measured(database: Database, tmp_path: Path) -> None:
    """Bytes grow with what is stored; what is free is the disk's, and absent where a server has the disk."""
    metrics = Metrics(CollectorRegistry())
    gauges = StoreGauges(database, None, metrics)
    await gauges.measure()
    before = shown(metrics, "headrace_store_bytes")
    assert before is not None
    await SqlStore(database, lambda: NOW).commit(numbered(5000))
    await gauges.measure()
    after = shown(metrics, "headrace_store_bytes")
    assert after is not None
    assert after > before + 100_000
    free = shown(metrics, "headrace_store_free_bytes")
    if database.dialect == "sqlite":
        assert free is not None
        assert abs(free - shutil.disk_usage(tmp_path).free) < 1 << 30  # others use the disk too
    else:
        assert free is None


async def test_the_lag_of_the_retention_is_shown(database: Database) -> None:
    """An event that is a day too old shows as a day of lag."""
    metrics = Metrics(CollectorRegistry())
    retention = Retention(database, timedelta(days=30), (), lambda: NOW)
    await SqlStore(database, lambda: NOW).commit(numbered(1, received_at=NOW - timedelta(days=31)))
    await StoreGauges(database, retention, metrics).measure()
    assert shown(metrics, "headrace_retention_lag_seconds") == 86_400
