"""Handlers whose leases move between processes: each event is delivered by one of them, and nobody waits for long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ingest.event import Event
from ingest.leases import Lease, handler_lease
from storage.engine import open_database
from storage.tables import cursors
from tests.support.dispatching import Clock, Recorder, Stage, an_event, running, staged, until
from tests.support.given_leases import GivenLeases

LEASE = handler_lease("h")


class Noticed(Lease):
    """A lease that is held until it moves, and knows that somebody saw that."""

    def __init__(self) -> None:
        self.noticed = False
        super().__init__(held=True)

    @property
    def held(self) -> bool:
        """See Lease."""
        held = super().held
        self.noticed = not held
        return held


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    """An empty store."""
    async with staged(open_database(f"sqlite:///{tmp_path}/test.db"), Clock()) as stage:
        yield stage


async def test_a_lease_that_moves_takes_the_handler_along(stage: Stage) -> None:
    """What is in flight finishes where it began; the other process goes on behind it, and nothing comes twice."""
    going = asyncio.Event()

    async def slowly(event: Event) -> None:
        if event.position == 3:
            await going.wait()

    one, other = Recorder(slowly), Recorder()
    ours, theirs = GivenLeases(LEASE), GivenLeases()
    moving = ours.known[LEASE] = Noticed()
    await stage.commit([an_event(number) for number in range(6)])
    async with running(stage.dispatcher(one, leases=ours)), running(stage.dispatcher(other, leases=theirs)):
        await until(lambda: 3 in one.tried)
        moving.change(held=False)
        theirs.lease(LEASE).change(held=True)
        await until(lambda: moving.noticed)
        await stage.commit([an_event(number) for number in range(6, 9)])
        going.set()
        await until(lambda: 9 in other.positions)
    assert sorted([*one.positions, *other.positions]) == [*range(1, 10)]
    assert 3 in one.positions


async def test_without_the_lease_nothing_is_asked_of_the_cursor(stage: Stage) -> None:
    """A process that stands by writes nothing, and no row of its own."""
    leases = GivenLeases()
    async with running(stage.dispatcher(Recorder(), leases=leases)):
        await until(lambda: LEASE in leases.known)
    assert await stage.database.read(lambda connection: connection.execute(cursors.select()).all()) == []
