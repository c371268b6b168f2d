"""Gaps as a scraper sees them: counted as they begin, their seconds and suspected losses as they end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from ingest.counted_coverage import CountedCoverage
from ingest.coverage import Gap
from ingest.event import Cause, Origin
from ingest.metrics import Metrics
from storage.coverage import SqlCoverage
from storage.engine import Database, open_database
from storage.migrate import migrate
from tests.support.records import NOW
from tests.support.stored import run

FLEET = Origin("tracker", "fleet", "sse")


class Process:
    """What one process counts over a store."""

    def __init__(self, database: Database) -> None:
        self._metrics = Metrics(CollectorRegistry())
        self.coverage = CountedCoverage(SqlCoverage(database), self._metrics)
        self.coverage.declare("fleet", "sse")

    def value(self, name: str, **labels: str) -> float | None:
        """A sample."""
        labels = {"source": "fleet"} | labels
        return self._metrics.registry.get_sample_value(f"headrace_{name}", labels)

    def caused(self, name: str, cause: Cause) -> float | None:
        """A sample by cause."""
        return self.value(name, mode="sse", cause=cause.value)

    @property
    def gap_open(self) -> float | None:
        """The gauge."""
        return self.value("gap_open", mode="sse")


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    """An empty store."""
    database = open_database(f"sqlite:///{tmp_path}/test.db")
    await migrate(database)
    yield database
    await database.close()


async def test_a_gap_counts_at_its_beginning_and_its_seconds_at_its_end(database: Database) -> None:
    """While it lasts the gauge is 1, and the API can show it."""
    process = Process(database)
    opened = await process.coverage.open(FLEET, 0, ago=100)
    assert (process.gap_open, process.coverage.open_gap("fleet", "sse")) == (0, None)

    (gap,) = await process.coverage.end(opened.interval, Cause.IDLE, ago=50)

    assert (process.gap_open, process.coverage.open_gap("fleet", "sse")) == (1, gap)
    assert (process.caused("gaps_total", Cause.IDLE), process.caused("gap_seconds_total", Cause.IDLE)) == (1, 0)

    (ended,) = (await process.coverage.open(FLEET, 0, ago=20)).ended

    assert ended.until is not None
    lasted = (ended.until - ended.since).total_seconds()
    assert (process.gap_open, process.coverage.open_gap("fleet", "sse")) == (0, None)
    assert process.caused("gaps_total", Cause.IDLE) == 1
    assert process.caused("gap_seconds_total", Cause.IDLE) == pytest.approx(lasted) == pytest.approx(30, abs=5)


async def test_a_gap_that_shows_afterwards_counts_whole(database: Database) -> None:
    """What a killed process left is counted by the next one, at once with seconds and suspected losses."""
    killed = SqlCoverage(database)
    left = await killed.open(FLEET, 0, ago=1000)
    await killed.extend(left.interval, ago=60)
    await run(database, "INSERT INTO tallies VALUES ('fleet', 'sse', (strftime('%s') - 500) / 60, 'stored', 940, 1)")

    process = Process(database)
    await process.coverage.open(FLEET, 0)

    assert process.caused("gaps_total", Cause.DOWN) == 1
    assert process.caused("gap_seconds_total", Cause.DOWN) == pytest.approx(60, abs=5)
    assert process.value("events_suspected_lost_total") == pytest.approx(60, abs=6)
    assert process.gap_open == 0


async def test_a_gap_of_an_earlier_process_counts_its_seconds_only(database: Database) -> None:
    """It was counted when it began; until the source listens again, it shows as open."""
    earlier = SqlCoverage(database)
    (gap,) = await earlier.end((await earlier.open(FLEET, 0, ago=100)).interval, Cause.STOPPED, ago=50)

    process = Process(database)
    process.coverage.follow([(("fleet", "sse"), gap)])
    assert (process.gap_open, process.coverage.open_gap("fleet", "sse")) == (1, gap)
    await process.coverage.open(FLEET, 0)

    assert process.gap_open == 0
    assert process.caused("gaps_total", Cause.STOPPED) == 0
    assert process.caused("gap_seconds_total", Cause.STOPPED) == pytest.approx(50, abs=5)


async def test_another_streams_interval_keeps_the_gauge_down(database: Database) -> None:
    """One of two streams that ends is no gap."""
    process = Process(database)
    first = await process.coverage.open(FLEET, 0, ago=100)
    await process.coverage.open(FLEET, 1, ago=100)

    assert list(await process.coverage.end(first.interval, Cause.CLOSED)) == []
    assert (process.gap_open, process.caused("gaps_total", Cause.CLOSED)) == (0, 0)


async def test_each_source_and_mode_has_a_gap_of_its_own(database: Database) -> None:
    """What is taken up for one shows for no other."""
    coverage = Process(database).coverage
    gap = Gap(NOW - timedelta(hours=1), None, Cause.DOWN, 0.0)
    coverage.follow([(("fleet", "sse"), gap), (("other", "sse"), gap)])
    assert coverage.open_gap("fleet", "webhook") is None
    assert coverage.open_gap("other", "sse") is None


async def test_of_several_processes_one_shows_gaps_as_a_metric(database: Database) -> None:
    """Where another process does, there is no gauge here, also when a gap begins; the API knows of it all the same."""
    process = Process(database)
    process.coverage.follow([], shown=False)
    assert process.gap_open is None
    opened = await process.coverage.open(FLEET, 0, ago=100)
    (gap,) = await process.coverage.end(opened.interval, Cause.IDLE, ago=50)
    assert (process.gap_open, process.coverage.open_gap("fleet", "sse")) == (None, gap)

    process.coverage.follow([(("fleet", "sse"), gap)])
    assert process.value("gap_open", mode="sse") == 1
