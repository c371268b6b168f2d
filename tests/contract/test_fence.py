"""The fence of a cursor: whatever clocks do and whoever was suspended, no event is passed by two processes."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import Connection

from ingest.errors import LeaseLost
from storage import clock, cursors, leases
from storage.cursors import SqlCursor, SqlCursors
from storage.engine import open_database
from tests.support.dispatching import Clock, Stage, an_event, staged
from tests.support.fresh import ALL

STORES = ALL
_EVENTS = 200
_STEPS = 120


class DatabaseClock:
    """The database's clock, which somebody sets: `offset` in microseconds."""

    def __init__(self) -> None:
        self.offset = 0

    def __call__(self, connection: Connection) -> int:
        """Return the time."""
        return clock.database_now(connection) + self.offset


class Process:
    """A process that would deliver: with a cursor that it may have lost without knowing, suspended for some steps."""

    def __init__(self, stage: Stage, name: str) -> None:
        self.name = name
        self.asleep = 0
        self._cursors = SqlCursors(stage.database)
        self._cursor: SqlCursor | None = None

    async def step(self, handler: str, chance: random.Random) -> range:
        """Do one thing; the positions that were passed by it."""
        if self.asleep > 0:
            self.asleep -= 1
            return range(0)
        if self._cursor is None:
            self._cursor = await self._cursors.acquire(handler, holder=self.name, begin="beginning")
            return range(0)
        before = self._cursor.position
        after = min(_EVENTS, before + chance.randint(0, 3))
        try:
            await self._cursor.advance(after)
        except LeaseLost:
            self._cursor = None
            return range(0)
        self.asleep = chance.choice([0, 0, 0, 5, 15])
        if chance.random() < 0.1:
            await self._cursor.release()  # and goes on, as one whose release is answered late
        return range(before + 1, after + 1)


@pytest.fixture
async def stage(url: str) -> AsyncIterator[Stage]:
    """A store with events."""
    async with staged(open_database(url), Clock()) as stage:
        await stage.commit([an_event(number) for number in range(_EVENTS)])
        yield stage


async def test_no_event_is_passed_by_two(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three processes, a clock that is set forward and back, and processes that sleep with a cursor in their hands."""
    now = DatabaseClock()
    for module in (leases, cursors):
        monkeypatch.setattr(module, "database_now", now)
    moves = 0
    for seed in range(8):
        chance, passed, handler = random.Random(seed), set[int](), f"handler-{seed}"
        processes = [Process(stage, f"{seed}-{number}") for number in range(3)]
        for _ in range(_STEPS):
            now.offset += chance.choice([0, 0, 3, 11, -3, -11, -40]) * 1_000_000
            process = chance.choice(processes)
            found = await process.step(handler, chance)
            assert passed.isdisjoint(found), f"seed {seed}: {process.name} passed {found} again"
            passed.update(found)
        assert passed == {*range(1, max(passed, default=0) + 1)}
        moves += len(passed)
    assert moves > 8 * 20
