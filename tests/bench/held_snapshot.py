"""What a snapshot that somebody holds costs those who commit: `python -m tests.bench.held_snapshot [SECONDS]`.

Debian's PostgreSQL. One event a commit, the most commits there can be, each of which leaves a dead row of `head` that
nobody can tidy up meanwhile. Four fifths of the time go to the database whose snapshot is held, the rest to another one
in turns, because a disk is not as quick at all times.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from datetime import UTC, datetime

import asyncpg

from ingest.event import Event
from storage.engine import open_database
from storage.migrate import migrate
from storage.store import SqlStore
from tests.support.postgres import debian_server
from tests.support.records import an_event

_HELD_SECONDS, _FREE_SECONDS = 8.0, 2.0


async def _fresh() -> tuple[str, SqlStore]:
    url = debian_server().fresh_database()
    database = open_database(url)
    await migrate(database)
    return url, SqlStore(database, lambda: datetime.now(UTC))


def _event(number: int) -> Event:
    return an_event(device=f"e00fce68{number % 1000:016x}", data=b"%d" % number, published_at=datetime.now(UTC))


async def _rate(store: SqlStore, seconds: float, start: int) -> tuple[float, int]:
    began, number = time.perf_counter(), start
    while time.perf_counter() - began < seconds:
        await store.commit([_event(number)])
        number += 1
    return (number - start) / (time.perf_counter() - began), number


async def measure(seconds: float) -> None:
    """Print the rates of both databases in turns, while the snapshot of the first one is held."""
    (url, held), (_, free) = await _fresh(), await _fresh()
    holder = await asyncpg.connect(url)
    await holder.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    await holder.execute("SELECT position FROM head")
    until, number, ratios = time.perf_counter() + seconds, 0, []
    while time.perf_counter() < until:
        first, number = await _rate(held, _HELD_SECONDS, number)
        second, number = await _rate(free, _FREE_SECONDS, number)
        ratios.append(first / second)
        print(f"{first:,.0f} and {second:,.0f} commits/s, {ratios[-1]:.2f} ×", flush=True)
    last = statistics.median(ratios[-12:])
    print(f"after {number:,} commits and {seconds:.0f} s: {last:.2f} × (the median of the last two minutes)")
    await holder.close()


def main() -> None:
    """Measure for so many seconds."""
    asyncio.run(measure(float((*sys.argv[1:], "600")[0])))


if __name__ == "__main__":
    main()
