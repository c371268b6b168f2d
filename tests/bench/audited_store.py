"""Auditors that read a store by themselves: how fast they do, and how one begins where there are a million devices."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import time
from collections.abc import AsyncIterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import NamedTuple

from prometheus_client import CollectorRegistry
from sqlalchemy import Connection, text

from app.auditor.auditor_metrics import AuditorMetrics
from app.auditor.session import AuditLimits, AuditSession
from ingest.metrics import Metrics
from ingest.sequences import Changes, DeviceState, Observation, SequenceRules, observe
from storage.cursors import SqlCursor, SqlCursors
from storage.engine import Database, open_database
from storage.feed import SqlFeed
from storage.migrate import migrate
from storage.sequences import AUDITOR, Followed, SequenceRow
from storage.store import SqlStore
from tests.bench.cost import Measured, children_seconds, cpu_seconds
from tests.bench.counted import device_of, records
from tests.bench.measures import resident_bytes
from tests.support.auditing import following

_BATCH = 1_000
_SAVED = 20_000
_LIKE = 1_000  # of so many devices the states are worked out, and are those of all others
_HEARD = 40
_GRACE = 300_000_000


class Begun(NamedTuple):
    """What an Auditor needed until its first step was done: seconds, and bytes of memory."""

    seconds: float
    grown: int


async def fill(url: str, events: int, devices: int) -> None:
    """Store events, by the store's own way in."""
    database = open_database(url)
    await migrate(database)
    store = SqlStore(database, lambda: datetime.now(UTC))
    for batch in records(events, devices, _BATCH):
        await store.commit(batch)
    await database.close()


async def follow_all(url: str) -> Measured:
    """Follow all that is stored; return the events a second, and what each took of a core."""
    async with _auditor(url) as (cursor, session):
        pid = os.getpid()
        await session.begin()
        began, own, writer = time.perf_counter(), cpu_seconds(pid), children_seconds(pid)
        while not await session.step():
            pass
        seconds, events = time.perf_counter() - began, cursor.position
        own, writer = cpu_seconds(pid) - own, children_seconds(pid) - writer
        return Measured(events / seconds, own / events * 1e6, writer / events * 1e6)


async def know_devices(url: str, count: int) -> None:
    """Save the states of so many devices, as an Auditor saves them, and store events that it has not followed."""
    states = [_state(number) for number in range(_LIKE)]
    now = int(time.time() * 1e6)
    await fill(url, 10 * _BATCH, count)
    async with _auditor(url) as (cursor, _):
        for first in range(0, count, _SAVED):
            rows = [
                SequenceRow("tracker", device_of(place, count).decode(), states[place % _LIKE], _HEARD, now)
                for place in range(first, min(first + _SAVED, count))
            ]
            await cursor.advance(0, followed=Followed(rows))


def begin_apart(url: str) -> Begun:
    """Let an Auditor begin in a process of its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(_begin, url).result()


async def table_bytes(url: str, table: str) -> tuple[int, int]:
    """Return what a table takes of the disk, and its indexes beside it, as the database says."""
    database = open_database(url)
    try:
        return await database.read(_table_bytes, table)
    finally:
        await database.close()


def _table_bytes(connection: Connection, table: str) -> tuple[int, int]:
    statement = (
        "SELECT sum(pgsize), 0 FROM dbstat WHERE name = :table"  # its rows are the index of their key
        if connection.dialect.name == "sqlite"
        else "SELECT pg_table_size(CAST(:table AS TEXT)), pg_indexes_size(CAST(:table AS TEXT))"
    )
    rows, beside = connection.execute(text(statement), {"table": table}).one()
    return int(rows), int(beside)


def _begin(url: str) -> Begun:
    async def run() -> Begun:
        async with _auditor(url) as (_, session):
            before, began = resident_bytes(os.getpid()), time.perf_counter()
            await session.begin()
            await session.step()
            return Begun(time.perf_counter() - began, resident_bytes(os.getpid()) - before)

    return asyncio.run(run())


@asynccontextmanager
async def _auditor(url: str) -> AsyncIterator[tuple[SqlCursor, AuditSession]]:
    """Take the Auditor's cursor; SQLite is written by another process, as in a server."""
    database: Database = open_database(url, write_apart=True)
    cursor = await SqlCursors(database).acquire(AUDITOR, holder="bench", begin="beginning")
    assert cursor is not None
    metrics = AuditorMetrics(Metrics(CollectorRegistry()))
    yield (
        cursor,
        AuditSession(
            cursor, SqlFeed(database), database, following(), metrics, lambda: datetime.now(UTC), AuditLimits()
        ),
    )
    await database.close()


def _state(number: int) -> bytes:
    """Return the state of a device whose numbers came, but for the 20th of one in twenty devices."""
    state, changes = DeviceState(), Changes(number * _HEARD + 1)
    for count in range(_HEARD):
        if count != _HEARD // 2 or number % 20:
            digest = (number * _HEARD + count + 1).to_bytes(3, "little")
            seen = Observation("tracker", "", "fleet", count, digest, None, count)
            observe(state, seen, SequenceRules(_GRACE), changes)
    return state.encode()
