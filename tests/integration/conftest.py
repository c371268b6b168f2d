"""An API over an empty store and a client of it; and a stage for dispatchers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry

from ingest.metrics import Metrics
from storage.engine import open_database
from storage.migrate import migrate
from tests.support.api import World
from tests.support.dispatching import Stage, real_time, staged


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A server over an empty store."""
    database = open_database(f"sqlite:///{tmp_path}/test.db")
    await migrate(database)
    yield World(database, Metrics(CollectorRegistry()))
    await database.close()


@pytest.fixture
async def client(world: World) -> AsyncIterator[httpx.AsyncClient]:
    """A client on the same machine, which knows the token that actions take."""
    async with world.client(authorization="Bearer made") as client:
        yield client


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    """An empty store on SQLite, by the real time."""
    async with staged(open_database(f"sqlite:///{tmp_path}/test.db"), real_time) as stage:
        yield stage
