"""The light verify: what it sees of a store, on both databases, what it shows, and when."""

from __future__ import annotations

import asyncio
from random import Random

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from ingest.event import Outcome
from ingest.intake_metrics import IntakeMetrics
from ingest.leases import Lease
from ingest.metrics import Metrics
from storage.books.posting import Posting
from storage.engine import Database
from storage.store import SqlStore
from storage.verify import balance
from storage.verify.balance import Balance
from tests.support.balanced import FLEET, fill
from tests.support.dispatching import until
from tests.support.records import NOW, an_event, numbered
from tests.support.stored import run

GAUGE = "headrace_balance_difference_events"
SEEN = {
    "a tally is another": ("UPDATE tallies SET count = count + 3 WHERE outcome = 'stored' AND source = 'fleet'", 3),
    "the head is ahead": ("UPDATE head SET position = position + 10", 10),
    "a row behind the books is gone": ("DELETE FROM events WHERE position = 270", 1),
    "a cursor is ahead": ("UPDATE cursors SET position = position + 4 WHERE handler = 'alerts'", 4),
    "gaps overlap": ("UPDATE gaps SET until = (SELECT until FROM gaps WHERE id = 2) WHERE id = 1", 1),
    "an interval ends before it begins": ("UPDATE coverage SET until = since - 1", 1),
    "a block is gone": ("DELETE FROM blocks WHERE source = 'lab'", 100),
}


def shown(metrics: Metrics) -> float | None:
    """Return what a scraper reads; None where the gauge is absent."""
    return metrics.registry.get_sample_value(GAUGE)


def made(database: Database, metrics: Metrics, lease: Lease | None = None, seconds: float = 0.01) -> Balance:
    """The balance of a process with the source `fleet`, which looks every so often."""
    IntakeMetrics(metrics, *FLEET)
    return Balance(database, metrics, [FLEET], Random(1), lease=lease, soon_seconds=seconds, every_seconds=seconds)


@pytest.fixture
def metrics() -> Metrics:
    """The metrics of a process."""
    return Metrics(CollectorRegistry())


async def test_a_store_that_balances_shows_0_and_logs_nothing(database: Database, metrics: Metrics) -> None:
    """Also one with nothing in it."""
    balance = made(database, metrics)
    with capture_logs() as logs:
        assert await balance.look()
        await fill(database)
        assert await balance.look()
    assert logs == []
    assert shown(metrics) == 0


@pytest.mark.parametrize("corruption", SEEN)
async def test_a_difference_is_shown_and_logged_once(database: Database, metrics: Metrics, corruption: str) -> None:
    """One line at error says how many events, and which rows to look at; the next look shows 0 where it is gone."""
    await fill(database)
    statement, events = SEEN[corruption]
    await run(database, statement)
    with capture_logs() as logs:
        await made(database, metrics).look()
    assert shown(metrics) == events
    ((level, event, count),) = [(line["log_level"], line["event"], line["events"]) for line in logs]
    assert (level, event, count) == ("error", "balance_difference", events)


async def test_the_newest_whole_block_and_some_others_are_read_again(
    database: Database, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row that is gone shows though all counts agree: in the newest block at once, elsewhere by chance."""
    await SqlStore(database, lambda: NOW).commit(numbered(8500))
    await Posting(database).post_all()
    await run(database, "DELETE FROM events WHERE position IN (100, 8000)")
    looking = made(database, metrics)
    with monkeypatch.context() as patch:
        patch.setattr(balance, "_BLOCKS", 0)
        await looking.look()
    assert shown(metrics) == 1
    await looking.look()
    assert shown(metrics) == 2


async def test_while_much_is_not_posted_it_says_nothing(
    database: Database, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To count that would take as long as there are events; it looks again soon."""
    await fill(database)
    await run(database, "UPDATE head SET position = position + 10")
    monkeypatch.setattr(balance, "_MOST_UNPOSTED", 50)
    assert not await made(database, metrics).look()
    assert shown(metrics) == 0


async def test_one_process_shows_it_for_all(database: Database, metrics: Metrics) -> None:
    """The gauge is absent where another process has the lease, and there soon after this one has it."""
    await fill(database)
    await run(database, "UPDATE head SET position = position + 10")
    lease = Lease()
    looking = asyncio.create_task(made(database, metrics, lease).run())
    await until(lambda: shown(metrics) is None)
    lease.change(held=True)
    await until(lambda: shown(metrics) == 10)
    lease.change(held=False)
    await until(lambda: shown(metrics) is None)
    looking.cancel()
    await asyncio.wait([looking])


async def test_what_a_process_counted_itself_has_to_add_up(database: Database, metrics: Metrics) -> None:
    """Arrivals in flight and settled are accounted for; one that was lost count of is a difference of this process."""
    balance = made(database, metrics)
    counts = IntakeMetrics(metrics, *FLEET)
    counts.count_received(5)
    counts.count_settled([an_event(), an_event()], [Outcome.STORED, Outcome.REDELIVERY], 0.1)
    await balance.look()
    assert shown(metrics) == 0
    metrics.received.labels(*FLEET).inc(3)
    with capture_logs() as logs:
        await balance.look()
    assert shown(metrics) == 3
    assert "of this process" in logs[0]["look_at"][0]
