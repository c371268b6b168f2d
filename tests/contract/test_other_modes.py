"""What a gap may have cost where a source has several modes; gaps of modes that are gone; an hour that is healthy."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

import pytest

from ingest.event import Cause, Origin
from storage.clock import database_now
from storage.coverage import SqlCoverage
from storage.engine import Database, open_database
from storage.gaps import SourceKey
from storage.removed_modes import RemovedModes, end_removed
from storage.replicas import LEASE_MICROS, forget
from tests.support.stored import rows, run

HOOK, STREAM = (Origin("tracker", "fleet", mode) for mode in ("webhook", "sse"))
OPEN = "SELECT source, mode FROM gaps WHERE until IS NULL ORDER BY source, mode"
SUSPECTED = "SELECT coalesce(sum(suspected), 0) FROM gaps"


async def bring(database: Database, mode: str, count: int, minutes: int = 30) -> None:
    """Let as many events have come by a mode, so many minutes ago."""
    await count_events(database, mode, (await database.read(database_now)) // 60_000_000 - minutes, count)


async def count_events(database: Database, mode: str, minute: int, count: int) -> None:
    """Let as many events have come by a mode in a minute."""
    row = f"'fleet', '{mode}', {minute}, 'stored', {count}"
    await run(database, f"INSERT INTO tallies (source, mode, minute, outcome, count) VALUES ({row})")  # noqa: S608


async def suspected(database: Database) -> float:
    """How many events all gaps together may have cost."""
    return float((await rows(database, SUSPECTED))[0][0])


async def both_listen(database: Database) -> tuple[SqlCoverage, int, int]:
    """A process that has listened by both modes for an hour, and was brought an event each second by both."""
    coverage = SqlCoverage(database)
    hook = (await coverage.open(HOOK, 0, ago=3600)).interval
    stream = (await coverage.open(STREAM, 1, ago=3600)).interval
    await bring(database, "webhook", 3600)
    await bring(database, "sse", 3600)
    return coverage, hook, stream


async def test_time_in_which_another_mode_listened_costs_nothing(database: Database) -> None:
    """The stream was away for ten minutes; the webhook brought the same events."""
    coverage, hook, stream = await both_listen(database)
    await coverage.end(stream, Cause.IDLE, ago=900)
    await coverage.extend(hook, ago=2)
    await coverage.open(STREAM, 1, ago=300)
    assert await suspected(database) == 0


async def test_only_what_neither_covered_counts(database: Database) -> None:
    """The webhook was there for the first half of the time; which of the gaps is closed first makes no difference."""
    for first, second in ((HOOK, STREAM), (STREAM, HOOK)):
        await run(database, "DELETE FROM gaps")
        await run(database, "DELETE FROM coverage")
        await run(database, "DELETE FROM tallies")
        coverage, hook, stream = await both_listen(database)
        await coverage.end(stream, Cause.IDLE, ago=600)
        await coverage.end(hook, Cause.STOPPED, ago=300)
        again = SqlCoverage(database)
        await again.open(first, 0, ago=100)
        await again.open(second, 0, ago=90)
        assert await suspected(database) == pytest.approx(240, rel=0.1)


@pytest.mark.parametrize("killed", [False, True])
async def test_one_stop_is_counted_once(database: Database, killed: bool) -> None:
    """Both modes were down for a minute, whether the process was stopped or killed: a minute's events, not two."""
    coverage, hook, stream = await both_listen(database)
    for interval in (hook, stream):
        await coverage.extend(interval, ago=60)
        if not killed:
            await coverage.end(interval, Cause.STOPPED, ago=60)
    again = SqlCoverage(database)
    await again.open(HOOK, 0)
    await again.open(STREAM, 1)
    assert await suspected(database) == pytest.approx(60, rel=0.1)


async def test_a_quick_restart_after_a_kill_is_counted_once_too(database: Database) -> None:
    """What a dead process left open looks alive for some seconds: the second gap makes up for it."""
    coverage, hook, stream = await both_listen(database)
    for interval in (hook, stream):
        await coverage.extend(interval, ago=8)
    again = SqlCoverage(database)
    await again.open(HOOK, 0)
    await again.open(STREAM, 1)
    assert await suspected(database) == pytest.approx(8, rel=0.1)


async def test_a_queue_keeps_what_nobody_takes(database: Database) -> None:
    """Beside a subscription a stop costs nothing: its messages come later."""
    coverage = SqlCoverage(database)
    stream = (await coverage.open(STREAM, 1, ago=3600)).interval
    await bring(database, "sse", 3600)
    await bring(database, "pubsub", 3600)
    await coverage.end(stream, Cause.STOPPED, ago=600)
    await SqlCoverage(database).open(STREAM, 1)
    assert await suspected(database) == 0


async def test_a_mode_that_is_gone_has_no_gap_that_lasts(database: Database) -> None:
    """Its gap ends as the next process starts; what an older replica leaves as it stops ends later; others' go on."""
    coverage, hook, stream = await both_listen(database)
    await coverage.end(stream, Cause.UNAUTHORIZED, ago=60)
    ended: list[tuple[SourceKey, Cause]] = []
    modes = RemovedModes(database, [SourceKey("fleet", "webhook")], lambda key, gap: ended.append((key, gap.cause)))
    await modes.end_all()
    assert await rows(database, OPEN) == []
    assert ended == [(SourceKey("fleet", "sse"), Cause.UNAUTHORIZED)]
    assert await rows(database, "SELECT cause FROM gaps WHERE until IS NOT NULL") == [("unauthorized",)]

    await coverage.end(hook, Cause.STOPPED, ago=5)
    old = await SqlCoverage(database).open(STREAM, 1, ago=4)
    await SqlCoverage(database).end(old.interval, Cause.STOPPED)
    assert await database.write(end_removed, (SourceKey("fleet", "sse"),), False) != []
    assert [mode for _, mode in await rows(database, OPEN)] in (["sse"], [])


class Hour:
    """A clock of the database and of all processes, which goes when the test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.micros = 1_785_257_585_000_000
        for module in ("coverage", "other_modes", "removed_modes"):
            monkeypatch.setattr(f"storage.{module}.database_now", lambda _connection: self.micros)
        monkeypatch.setattr("storage.coverage.elapsed", lambda: self.micros / 1e6)


@dataclass
class Replica:
    """A process that listens by its modes, and renews its row; the stream is one replica's at a time."""

    database: Database
    hour: Hour
    modes: list[Origin]
    holder: str = field(default_factory=lambda: secrets.token_hex(4))

    async def start(self, *others: Replica) -> None:
        """Begin to listen; the others go on meanwhile."""
        keys = [SourceKey(origin.source, origin.mode) for origin in self.modes]
        self.removed = RemovedModes(self.database, keys, lambda key, gap: None)
        await self.removed.end_all()
        self.coverage, self.intervals = SqlCoverage(self.database, self.holder), {}
        await self.renew()
        for origin in self.modes:
            for other in others:
                await other.live()
            self.intervals[origin.mode] = (await self.coverage.open(origin, 0)).interval

    async def renew(self) -> None:
        """Say that it lives."""
        ends = self.hour.micros + LEASE_MICROS
        row = f"INSERT INTO replicas (holder, expires_at, wants) VALUES ('{self.holder}', {ends}, '')"  # noqa: S608
        await run(self.database, f"{row} ON CONFLICT (holder) DO UPDATE SET expires_at = {ends}")

    async def live(self) -> None:
        """Go on for two seconds."""
        await self.renew()
        for interval in self.intervals.values():
            await self.coverage.extend(interval)

    async def stop(self) -> None:
        """Stop in good order."""
        for interval in self.intervals.values():
            await self.coverage.end(interval, Cause.STOPPED)
        await self.database.write(forget, self.holder)


async def test_a_healthy_hour(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two replicas, a rolling restart, a mode taken out by another one: no gap is open, nothing is suspected lost."""
    hour, database = Hour(monkeypatch), open_database(postgres_url)
    first = [Replica(database, hour, [HOOK]), Replica(database, hour, [HOOK, STREAM])]
    for replica in first:
        await replica.start()
    running = list(first)
    plan = {
        1200: (0, [HOOK, STREAM]),  # a rolling restart: the stream moves to the other one
        1230: (1, [HOOK]),
        2400: (0, [HOOK]),  # and the stream is taken out, first where it runs
        2430: (1, [HOOK]),
    }
    for second in range(0, 3600, 2):
        hour.micros += 2_000_000
        if second in plan:
            number, modes = plan[second]
            await running[number].stop()
            hour.micros += 2_000_000
            running[number] = Replica(database, hour, modes)
            await running[number].start(running[1 - number])
        for replica in running:
            await replica.live()
        if second % 60 == 0:
            for mode in ("webhook", "sse"):
                await count_events(database, mode, hour.micros // 60_000_000, 60)
            for replica in running:
                await replica.removed._end(stopped_only=True)
    assert await rows(database, OPEN) == []
    assert await suspected(database) == 0
    assert [row[0] for row in await rows(database, "SELECT DISTINCT mode FROM gaps")] in (["sse"], [])
    await database.close()
