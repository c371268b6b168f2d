"""A handler's lease is certain from the question on: however late the store answers, no two processes deliver at once.

A store that is slow here lets the event loop's time pass, so nothing waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import ParamSpec, TypeVar

import pytest

from ingest.deliveries import LEASE_SECONDS
from storage.engine import Database, Work, open_database
from tests.support.dispatching import Clock, Recorder, Stage, an_event, running, staged

P = ParamSpec("P")
T = TypeVar("T")

LATE_SECONDS = LEASE_SECONDS - 1.0  # the answer is there in time, but too little is left to begin a delivery


class SlowToAnswer:
    """storage.engine.Database that carries out what is written at once, and answers after `seconds`, all `passed`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._answered = asyncio.Condition()
        self.dialect = database.dialect
        self.seconds = 0.0
        self.passed = 0.0

    async def write(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See Database."""
        answer = await self._database.write(work, *args, **kwargs)
        self.passed += self.seconds
        async with self._answered:
            self._answered.notify_all()
        return answer

    async def read(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See Database."""
        return await self._database.read(work, *args, **kwargs)

    async def alter(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See Database."""
        return await self._database.alter(work, *args, **kwargs)

    async def close(self) -> None:
        """See Database."""
        await self._database.close()

    async def answer(self, times: int) -> None:
        """Return when so many more writes were answered."""
        async with self._answered:
            for _ in range(times):
                await self._answered.wait()


@pytest.fixture
async def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SlowToAnswer:
    """A database that answers at once, as yet."""
    store = SlowToAnswer(open_database(f"sqlite:///{tmp_path}/test.db"))
    loop = asyncio.get_running_loop()
    real_time = loop.time
    monkeypatch.setattr(loop, "time", lambda: real_time() + store.passed)
    return store


@pytest.fixture
async def stage(store: SlowToAnswer) -> AsyncIterator[Stage]:
    """An empty store."""
    async with staged(store, Clock()) as stage:
        yield stage


async def test_a_lease_that_was_given_late_is_not_sure(stage: Stage, store: SlowToAnswer) -> None:
    """Where the answer to taking the cursor came late, nothing is delivered before a renewal was answered in time."""
    await stage.commit([an_event(1)])
    store.seconds = LATE_SECONDS
    handler = Recorder()
    async with running(stage.dispatcher(handler)):
        await store.answer(5)
        assert handler.tried == []
        store.seconds = 0.0
        await delivered(handler, 1)


async def test_a_lease_that_was_renewed_late_is_not_sure(stage: Stage, store: SlowToAnswer) -> None:
    """Where renewals are answered late, nothing is begun until one is answered in time."""
    await stage.commit([an_event(1)])
    handler = Recorder()
    async with running(stage.dispatcher(handler)):
        await delivered(handler, 1)
        store.seconds = LATE_SECONDS
        await stage.commit([an_event(2)])  # answered late too: the lease has to be renewed by now
        await store.answer(5)
        assert handler.tried == [1]
        store.seconds = 0.0
        await delivered(handler, 2)


async def delivered(handler: Recorder, position: int) -> None:
    """Return when the handler has it."""
    while position not in handler.positions:  # noqa: ASYNC110 - a handler has no event of its own
        await asyncio.sleep(0.001)
