"""How long ingestion pauses while a partition of a million events goes: `python -m tests.bench.dropping [BATCH]`.

Debian's PostgreSQL. Every ten milliseconds a batch is committed; meanwhile retention takes the partition out and
forgets its ids. Printed is how long the tables were locked against all others, and the slowest commits by what went on.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from ingest.event import Event
from storage import bulk, partitions, whole_partitions
from storage.books import BOOKS, checksums
from storage.books.place import move_place, take_place
from storage.database import Database, P, T, Work
from storage.engine import open_database
from storage.migrate import migrate
from storage.retention import Retention
from storage.store import SqlStore
from tests.support.explained import noting
from tests.support.postgres import debian_server
from tests.support.records import an_event

_EVERY_SECONDS = 0.01
_QUIET_SECONDS = 10.0
_LONG_SECONDS = 0.1
_DEVICES = 10_000
_FILL = """
WITH new AS (
  SELECT position, (lpad(to_hex(($1::bigint + position) / 1000), 12, '0') || right(gen_random_uuid()::text, 22))::uuid
  AS id FROM generate_series(1, {last}) AS position
), stored AS (
  INSERT INTO events (position, id, product, device, name, data, received_at, source, mode, attributes)
  SELECT position, id, 'fleet', 'd' || position % {devices}, 'temperature', convert_to(repeat('x', 200), 'UTF8'),
  $1::bigint + position, 'fleet', 'webhook', '{{}}' FROM new
) INSERT INTO ids (id, position) SELECT id, position FROM new
"""


class Watched:
    """storage.database.Database that says what retention is `at`, and for how long it locked the tables."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.dialect = database.dialect
        self.at = "nothing"
        self.locked_seconds = 0.0
        self._locked_at = 0.0

    async def write(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See Database."""
        if work is whole_partitions.forget_some:
            self.at = "the ids go"
        result = await self._database.write(work, *args, **kwargs)
        if work is whole_partitions.forget_some and not result:
            self.at = "the table went"
        return result

    async def read(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See Database."""
        return await self._database.read(work, *args, **kwargs)

    async def alter(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See Database."""
        self.at = "it is taken out"
        result = await self._database.alter(noting(work, self._note), *args, **kwargs)
        self.locked_seconds = time.perf_counter() - self._locked_at
        return result

    async def close(self) -> None:
        """See Database."""
        await self._database.close()

    def _note(self, text: str, _parameters: tuple[Any, ...]) -> None:
        if text.startswith("LOCK TABLE") and "ONLY" not in text:
            self._locked_at = time.perf_counter()


def _fill(connection: Connection, at: int) -> int:
    """Fill the first partition with events of a time, also in the books; return how many."""
    first = partitions.attached(connection)[1]
    bulk.run(connection, _FILL.format(last=first.end - 1, devices=_DEVICES), (at,))
    bulk.run(connection, f"UPDATE head SET position = {first.end - 1}")  # noqa: S608 - a number
    take_place(connection, BOOKS)
    checksums.post(connection, 0, first.end - 1)
    move_place(connection, BOOKS, first.end - 1)
    return first.end - 1


async def commit_steadily(store: SqlStore, size: int, doing: Callable[[], str], took: dict[str, list[float]]) -> None:
    """Commit a batch every ten milliseconds until cancelled, and note how long each took, by what else went on."""
    number, due = 0, time.perf_counter()
    while True:
        events = [_event(number + more) for more in range(size)]
        number += size
        at, began = doing(), time.perf_counter()
        await store.commit(events)
        seconds = time.perf_counter() - began
        for phase in {at, doing()}:
            took[phase].append(seconds)
        due = max(due + _EVERY_SECONDS, time.perf_counter())
        await asyncio.sleep(due - time.perf_counter())


def _event(number: int) -> Event:
    now = datetime.now(UTC)
    return an_event(device=f"d{number % _DEVICES}", data=b"%0200d" % number, published_at=now, received_at=now)


async def drop(size: int) -> None:
    """Measure, and print."""
    url = debian_server().fresh_database()
    database = Watched(open_database(url))
    await migrate(database)
    now = datetime.now(UTC)
    filled = await database.alter(_fill, round((now - timedelta(days=40)).timestamp() * 1_000_000))
    for statement in ("VACUUM (ANALYZE)", "CHECKPOINT"):  # what filling left behind
        debian_server().run("psql", "-X", "-q", "-c", statement, url)
    took: defaultdict[str, list[float]] = defaultdict(list)
    database.at = "nothing"
    store = SqlStore(database, lambda: datetime.now(UTC))
    committing = asyncio.create_task(commit_steadily(store, size, lambda: database.at, took))
    await asyncio.sleep(_QUIET_SECONDS)
    began = time.perf_counter()
    gone = await Retention(database, timedelta(days=30), (), lambda: now).purge()
    purged = time.perf_counter() - began
    await asyncio.sleep(_QUIET_SECONDS / 2)
    committing.cancel()
    with suppress(asyncio.CancelledError):
        await committing
    await database.close()
    print(f"{gone:,} of {filled:,} events went in {purged:.0f} s; exclusive {database.locked_seconds * 1000:.0f} ms")
    for phase, seconds in took.items():
        p99, long = statistics.quantiles(seconds, n=100)[98], sum(each > _LONG_SECONDS for each in seconds)
        print(
            f"  while {phase}: {len(seconds)} commits of {size}, p99 {p99 * 1000:.0f} ms,"
            f" longest {max(seconds) * 1000:.0f} ms, {long} of more than 100 ms"
        )


if __name__ == "__main__":
    asyncio.run(drop(int((*sys.argv[1:], "10")[0])))
