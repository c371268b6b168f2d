"""While PostgreSQL is away records are durable in the spool, and drained in order, once, when it is back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Protocol

import pytest
from prometheus_client import CollectorRegistry

from ingest.errors import ConfigurationError, StoreUnavailable
from ingest.event import Commit, Outcome, Record
from ingest.inbox import Inbox
from ingest.intake import SourceIntake
from ingest.intake_metrics import IntakeAccounts
from ingest.metrics import Metrics
from storage import spool_file
from storage.database import CommitUnanswered
from storage.engine import Database
from storage.health import WatchedStore
from storage.spool import SpooledStore
from storage.spool_file import SpoolFile, totals_of
from storage.store import SqlStore
from tests.contract.test_store_faults import REFUSED_NAME
from tests.support.fresh import DEBIAN, POSTGRES
from tests.support.gated_database import GatedDatabase
from tests.support.records import NOW, a_reject, an_event, an_ignored, numbered
from tests.support.stored import positions, rejects, rows, tallies

STORES = (POSTGRES, DEBIAN)
SIX = ("stored", "duplicate", "rejected", "ignored", "deferred", "in_flight")


class Replica:
    """A process with a spool in `folder`, on a database that can be away. `crash` lets go of it without a word."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database = GatedDatabase(database)
        self.metrics = Metrics(CollectorRegistry())
        accounts = IntakeAccounts(self.metrics)
        self.store = SpooledStore(
            lambda: SqlStore(self.database, lambda: NOW),
            SpoolFile(folder / "spool.db"),
            accounts,
            lambda: NOW,
            watched=WatchedStore(SqlStore(self.database, lambda: NOW), self.database).watched,
            prepare=self._prepare,
            patience_seconds=0.5,
            retry_seconds=0.01,
        )
        self.inbox = Inbox(self.store, self.metrics, max_events=10**6, max_bytes=10**9, patience_seconds=5)
        self.intake = SourceIntake(self.inbox, self.metrics, "fleet", "webhook", accounts.of("fleet", "webhook"))
        self.prepared = True
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Take up what is in the spool, and drain it when the database lets it."""
        await self.store.open()
        self._tasks = [asyncio.create_task(self.store.run()), asyncio.create_task(self.inbox.run())]

    async def crash(self) -> None:
        """End at once."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.store.close()

    async def empty(self) -> None:
        """Return when nothing waits in the spool."""
        async with asyncio.timeout(30):
            while self.store.state().records or self.store._spooling:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.01)

    def balanced(self) -> dict[str, int]:
        """The counters of the source, which have to add up."""
        counts = self.metrics.counts("fleet", "webhook")
        assert counts["received"] == sum(counts[name] for name in SIX)
        return counts

    async def _prepare(self) -> None:
        if not self.prepared:
            raise StoreUnavailable("not prepared")
        await self.database.read(lambda connection: None)


class Start(Protocol):
    """Starts a replica, and ends the one before as a kill does."""

    async def __call__(self, *, away: bool = False) -> Replica:
        """`away`: PostgreSQL is, at first."""
        ...


@pytest.fixture
async def replicas(database: Database, tmp_path: Path) -> AsyncIterator[Start]:
    """Starts replicas, one after the other, on one spool."""
    started: list[Replica] = []

    async def start(*, away: bool = False) -> Replica:
        for before in started:
            await before.crash()
        replica = Replica(database, tmp_path)
        started[:] = [replica]
        replica.database.away = away
        await replica.start()
        return replica

    yield start
    for replica in started:
        await replica.crash()


async def test_records_are_kept_while_the_database_is_away(replicas: Start, database: Database) -> None:
    """Events, rejects and what was ignored are settled at once, drained in order, and counted as what they became."""
    replica = await replicas()
    assert await replica.intake.settle(numbered(2)) == [Outcome.STORED] * 2
    replica.database.away = True

    outcomes = await replica.intake.settle([*numbered(3, 1), a_reject(), an_ignored()])
    assert outcomes == [Outcome.SPOOLED] * 3 + [Outcome.REJECTED, Outcome.IGNORED]
    assert await replica.intake.settle(numbered(2, 4)) == [Outcome.SPOOLED] * 2
    counts = replica.balanced()
    assert (counts["in_flight"], counts["stored"]) == (5, 2)
    assert replica.store.state().records == 7
    assert replica.store.fault() is None
    assert await positions(database) == [1, 2]

    replica.database.away = False
    await replica.empty()
    counts = replica.balanced()
    assert {name: counts[name] for name in SIX} == {
        "stored": 6, "duplicate": 1, "rejected": 1, "ignored": 1, "deferred": 0, "in_flight": 0,
    }  # fmt: skip
    stored = await rows(database, "SELECT id FROM events ORDER BY position")
    assert [row[0] for row in stored] == [event.id for event in numbered(6)]
    assert await tallies(database) == {"stored": 6, "redelivery": 1, "rejected": 1, "ignored": 1}
    assert await replica.intake.settle(numbered(1, 9)) == [Outcome.STORED]


async def test_what_a_device_sent_again_is_known_when_it_is_drained(replicas: Start, database: Database) -> None:
    """Its own number of the message waits in the spool with the event."""
    replica = await replicas(away=True)
    first, copy = (an_event(published_at=NOW + timedelta(seconds=second), message="m1") for second in range(2))
    assert await replica.intake.settle([first, copy]) == [Outcome.SPOOLED] * 2

    replica.database.away = False
    await replica.empty()
    assert await tallies(database) == {"stored": 1, "resend": 1}
    assert replica.balanced()["duplicate"] == 1
    assert await rows(database, "SELECT position FROM sightings") == [(1,)]


async def test_nothing_newer_goes_before_what_waits(replicas: Start, database: Database) -> None:
    """Events that come while the spool is drained are committed behind it, whichever way they take."""
    replica = await replicas(away=True)
    for start in range(0, 3000, 100):
        await replica.intake.settle(numbered(100, start))
    replica.database.away = False
    for start in range(3000, 6000, 100):
        await replica.intake.settle(numbered(100, start))

    await replica.empty()
    stored = await rows(database, "SELECT id FROM events ORDER BY position")
    assert [row[0] for row in stored] == [event.id for event in numbered(6000)]
    assert replica.balanced()["in_flight"] == 0


async def test_the_next_process_drains_what_it_finds(replicas: Start, database: Database) -> None:
    """A process that ends leaves its spool to the next one, which counts those events as its own arrivals."""
    unidentified = an_event("reading", published_at=None)
    replica = await replicas(away=True)
    await replica.intake.settle([*numbered(3), unidentified, a_reject()])

    replica = await replicas()
    await replica.intake.settle(numbered(2, 2))
    await replica.empty()

    counts = replica.balanced()
    assert (counts["received"], counts["stored"], counts["duplicate"], counts["in_flight"]) == (6, 5, 1, 0)
    stored = await rows(database, "SELECT id FROM events ORDER BY position")
    assert [row[0] for row in stored] == [*(event.id for event in numbered(3)), unidentified.id, numbered(1, 3)[0].id]
    assert len(await rejects(database)) == 1


@pytest.mark.parametrize("lost", ["tried", "drained"])
@pytest.mark.parametrize("dies", [False, True])
async def test_what_was_committed_without_an_answer_is_not_committed_again(
    lost: str, dies: bool, replicas: Start, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A COMMIT whose answer is lost, directly or as the spool is drained, happens once: no reject is there twice."""
    commit_once = SqlStore._commit_once

    async def unanswered(self: SqlStore, *arguments: object) -> Commit:
        commit = await commit_once(self, *arguments)  # type: ignore[arg-type]
        monkeypatch.setattr(SqlStore, "_commit_once", commit_once)
        replica.database.away = True
        raise CommitUnanswered("the answer is lost", (0, list(commit.outcomes)))

    records: list[Record] = [*numbered(2), a_reject(), an_ignored()]
    replica = await replicas(away=lost == "drained")
    if lost == "tried":
        await replica.empty()
        monkeypatch.setattr(SqlStore, "_commit_once", unanswered)
        await replica.intake.settle(records)
    else:
        await replica.intake.settle(records)
        monkeypatch.setattr(SqlStore, "_commit_once", unanswered)
        replica.database.away = False
        async with asyncio.timeout(30):
            while not replica.database.away:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.01)
    assert replica.store.state().records == 4
    assert await tallies(database) == {"stored": 2, "rejected": 1, "ignored": 1}

    if dies:
        replica = await replicas()
    replica.database.away = False
    await replica.empty()
    counts = replica.balanced()
    assert (counts["stored"], counts["in_flight"]) == (0 if dies else 2, 0)
    assert await tallies(database) == {"stored": 2, "rejected": 1, "ignored": 1}
    assert await rows(database, "SELECT count(*) FROM sightings") == [(0,)]


async def test_a_commit_that_takes_too_long_is_kept_too(replicas: Start, database: Database) -> None:
    """Where PostgreSQL does not answer, the sender has its answer; whether that commit happens, the event is once."""
    replica = await replicas()
    await replica.empty()
    replica.database.close_gate()

    assert await replica.intake.settle([*numbered(1), a_reject()]) == [Outcome.SPOOLED, Outcome.REJECTED]

    replica.database.open_gate()
    await replica.empty()
    counts = replica.balanced()
    assert (counts["stored"], counts["duplicate"], counts["in_flight"]) == (1, 0, 0)
    assert await tallies(database) == {"stored": 1, "rejected": 1}


async def test_a_full_spool_defers(replicas: Start, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond its bound the sender is told to come again, as without a spool, and readyz can say why."""
    replica = await replicas(away=True)
    await replica.intake.settle(numbered(1))
    monkeypatch.setattr(spool_file, "LARGEST_BYTES", 1)

    assert await replica.intake.settle(numbered(1, 1)) == [Outcome.DEFERRED]
    replica.database.away = False
    await replica.empty()
    assert replica.store.fault() is None
    assert await positions(database) == [1]
    assert replica.balanced()["in_flight"] == 0


async def test_what_the_database_refuses_keeps_nothing_back(
    replicas: Start, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refused event becomes a reject; what cannot be kept in any way waits apart until the next start."""
    unstorable = a_reject(headers={"x": "unstorable"})
    commit_once = SqlStore._commit_once

    async def refuse(self: SqlStore, records: Sequence[Record], *rest: object) -> Commit:
        if unstorable in records:
            raise TypeError("a fault of ours")
        return await commit_once(self, records, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(SqlStore, "_commit_once", refuse)
    replica = await replicas(away=True)
    await replica.intake.settle(numbered(1))
    await replica.intake.settle([an_event(REFUSED_NAME), unstorable])
    await replica.intake.settle(numbered(1, 1))
    replica.database.away = False
    await replica.empty()
    assert await positions(database) == [1, 2]
    assert [reject.reason for reject in await rejects(database)] == ["refused_by_store"]
    assert replica.balanced()["in_flight"] == 0

    monkeypatch.setattr(SqlStore, "_commit_once", commit_once)
    replica = await replicas()
    await replica.empty()
    assert unstorable in await rejects(database)


async def test_nothing_goes_to_a_database_that_is_not_prepared(replicas: Start, database: Database) -> None:
    """A schema that is behind is looked at again, and until then the spool takes what comes."""
    replica = await replicas(away=True)
    replica.prepared = replica.database.away = False

    assert await replica.intake.settle(numbered(1)) == [Outcome.SPOOLED]
    replica.prepared = True
    await replica.empty()
    assert await positions(database) == [1]


async def test_a_spool_is_one_process_s(replicas: Start, database: Database, tmp_path: Path) -> None:
    """A second process is refused by the name of the key; anybody may ask what waits."""
    replica = await replicas(away=True)
    await replica.intake.settle(numbered(3))

    with pytest.raises(ConfigurationError, match=r"store\.spool: another process"):
        await SpoolFile(tmp_path / "spool.db").open("another")
    assert (await totals_of(tmp_path / "spool.db")).records == 3
    assert (await totals_of(tmp_path / "none.db")).records == 0
