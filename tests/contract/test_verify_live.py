"""`verify` finds nothing in a store that is written to from all sides while it looks, on both databases."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from ingest.errors import DeadLetter
from ingest.event import Event
from storage.books.posting import Posting
from storage.engine import Database
from storage.retention import Retention
from tests.support.balanced import verified
from tests.support.dispatching import AT_ONCE, Recorder, Stage, running, until
from tests.support.partitioned import small_partitions
from tests.support.records import an_event
from tests.support.server import PATIENCE_SECONDS

KEEP = timedelta(hours=1)
_ROWS = 512  # of a partition
_TIMES = 12


class Traffic:
    """Commits batches without end: half of the events are old enough to expire at once, some come twice."""

    def __init__(self, stage: Stage, random: Random) -> None:
        self._stage = stage
        self._random = random
        self.committed = 0

    async def run(self) -> None:
        """Commit until cancelled."""
        before: list[Event] = []
        while True:
            now = datetime.now(UTC)
            batch = [self._event(now, number) for number in range(self._random.randrange(1, 100))]
            await self._stage.commit([*batch, *before[:5]])
            before, self.committed = batch, self.committed + len(batch)
            await asyncio.sleep(0)

    def _event(self, now: datetime, number: int) -> Event:
        received = now - self._random.choice((timedelta(0), 2 * KEEP))
        return an_event(
            device=f"dev{number % 7}", data=b"%d" % (self.committed + number), published_at=now, received_at=received
        )


@pytest.fixture
async def busy(database: Database, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Traffic]:
    """Ingestion, the books, retention and a handler that fails now and then, all at once on one store."""
    if database.dialect == "postgresql":
        await small_partitions(database, monkeypatch, _ROWS)
    random = Random(7)

    def behave(_event: Event) -> None:
        if (fate := random.random()) < 0.02:
            raise DeadLetter
        if fate < 0.1:
            raise ValueError("flaky")

    stage = Stage(database, lambda: datetime.now(UTC))
    traffic = Traffic(stage, random)
    retention = Retention(database, KEEP, ("h",), lambda: datetime.now(UTC), every_seconds=0.01)
    async with running(stage.dispatcher(Recorder(behave), retry=AT_ONCE)):
        works = [traffic.run(), Posting(database, every_seconds=0.01).run(), retention.run()]
        tasks = [asyncio.create_task(work) for work in works]
        yield traffic
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in ended), ended


async def test_nothing_is_found_while_the_store_is_written_to(busy: Traffic, another: Database) -> None:
    """Each of its comparisons is of one moment, so what is committed meanwhile is in both sides of it, or in none."""
    times, expired = 0, False
    async with asyncio.timeout(PATIENCE_SECONDS):
        while times < _TIMES or not expired:
            committed = busy.committed
            found = await verified(another)
            assert found.differences == []
            given = next(check.counted for check in found.checks if check.check == "positions")
            expired = given > sum(source.found for source in found.sources)
            times += 1
            await until(lambda before=committed: busy.committed > before)  # type: ignore[misc]
