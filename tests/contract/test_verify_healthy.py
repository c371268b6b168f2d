"""`verify` finds nothing in healthy stores, whatever happened to them, also while it happens; on both databases."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from prometheus_client import CollectorRegistry

from ingest.metrics import Metrics
from storage.engine import Database, open_database
from storage.migrate import migrate
from storage.verify.balance import Balance
from tests.support.balanced import differences
from tests.support.history import History
from tests.support.partitioned import small_partitions

_ROWS = 64  # of a partition


async def lived(database: Database, seed: int, most_events: int = 40) -> None:
    """A history of 80 steps, verified on its way and at its end."""
    history = History(database, seed, most_events)
    metrics = Metrics(CollectorRegistry())
    for _ in range(4):
        await history.go(20)
        if database.dialect == "postgresql":
            await history.take_out()
        assert await differences(database) == []
        await Balance(database, metrics, [], Random(seed)).look()
        assert metrics.registry.get_sample_value("headrace_balance_difference_events") == 0


@pytest.mark.parametrize("seed", range(3))
async def test_nothing_is_found_in_a_healthy_store(
    database: Database, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events, copies, rejects, deliveries that fail and die, pauses, retention, partitions that go, gaps, restarts."""
    if database.dialect == "postgresql":
        await small_partitions(database, monkeypatch, _ROWS)
    await lived(database, seed)


@pytest.mark.chaos
@pytest.mark.parametrize("ten", range(10))
async def test_nothing_is_found_in_a_hundred_healthy_stores(ten: int, tmp_path: Path) -> None:
    """Ten seeds each, on SQLite; half of them with batches that fill blocks."""
    for seed in range(100 + 10 * ten, 110 + 10 * ten):
        database = open_database(f"sqlite:///{tmp_path}/{seed}.db")
        await migrate(database)
        await lived(database, seed, 40 if seed % 2 else 800)
        await database.close()
