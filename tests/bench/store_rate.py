"""The store's own rate, without HTTP or decoding: `python -m tests.bench.store_rate URL BATCH EVENTS` prints JSON."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from sqlalchemy import Connection

from ingest.event import Origin, Record
from ingest.formats.particle import ParticleFormat
from storage.engine import Database, open_database
from storage.migrate import migrate
from storage.store import SqlStore
from tests.support.numbered import Numbered

_SETTINGS = {
    "sqlite": ("PRAGMA journal_mode", "PRAGMA synchronous"),
    "postgresql": ("SHOW fsync", "SHOW synchronous_commit"),
}
_FULL = {"journal_mode": {"wal": "WAL"}, "synchronous": {"2": "FULL", "1": "NORMAL", "0": "OFF"}}


class StoreRate(msgspec.Struct):
    """Events per second in batches of one size, and the durability they were committed with."""

    events_per_second: float
    durability: str


def store_rate(url: str, batch: int, events: int) -> StoreRate:
    """Measure in a process of its own, on an empty store."""
    command = [sys.executable, "-m", "tests.bench.store_rate", url, str(batch), str(events)]
    done = subprocess.run(command, check=True, capture_output=True, cwd=Path(__file__).resolve().parents[2])
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=StoreRate)


def prepared(batch: int, events: int) -> list[list[Record]]:
    """Batches of decoded records, each event a new one."""
    numbered = Numbered("store", datetime.now(UTC))
    particle = ParticleFormat(Origin("fleet", "fleet", "webhook"), [])
    now = datetime.now(UTC)
    return [list(particle.decode(numbered.batch(first, batch), {}, now)) for first in range(0, events, batch)]


async def measure(url: str, batch: int, events: int) -> StoreRate:
    """Commit the prepared batches one after the other."""
    database = open_database(url)
    try:
        await migrate(database)
        store = SqlStore(database, lambda: datetime.now(UTC))
        batches = prepared(batch, events)
        began = time.perf_counter()
        for records in batches:
            await store.commit(records)
        return StoreRate(events / (time.perf_counter() - began), await durability(database))
    finally:
        await database.close()


async def durability(database: Database) -> str:
    """The settings that decide whether a commit survives a power cut, as the store's own connections have them."""
    found = []
    for statement in _SETTINGS[database.dialect]:
        value = str(await database.write(_scalar, statement))
        name = statement.split()[1]
        found.append(f"{name}={_FULL.get(name, {}).get(value, value)}")
    return ", ".join(found)


def _scalar(connection: Connection, statement: str) -> object:
    return connection.exec_driver_sql(statement).scalar()


if __name__ == "__main__":
    print(msgspec.json.encode(asyncio.run(measure(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))).decode())
