"""How long pages take of many events: `python -m tests.bench.pages_at_size [EVENTS] [PARTITIONS]`.

Debian's PostgreSQL, filled by itself: as many partitions, 100,000 devices, ten names, a minute of events apart by ten
minutes. Asked over HTTP, one after the other, each kind of page as often, in turns.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import asyncpg

from storage.engine import open_database
from storage.migrate import migrate
from storage.partition_care import PartitionCare
from tests.support.postgres import debian_server
from tests.support.server import Server

_DEVICES = 100_000
_ASKED = 100
_FILL = """
WITH new AS (
  SELECT number AS position, gen_random_uuid() AS id, 1785000000000000 + number * 100000 AS at,
  'e00fce68' || lpad(to_hex(number * 48271 % {devices}), 16, '0') AS device
  FROM generate_series($1::bigint, $2::bigint) AS number
), stored AS (
  INSERT INTO events (position, id, product, device, name, data, published_at, received_at, source, mode, attributes)
  SELECT position, id, 'fleet', device, 'name' || position % 10, '{{"t": 21.5}}', at, at, 'fleet', 'webhook', '{{}}'
  FROM new
) INSERT INTO ids (id, position) SELECT id, position FROM new
"""
_CONFIG = '[store]\nurl = "{url}"\nretention = "forever"\n'


async def fill(url: str, events: int, partitions: int) -> list[str]:
    """Make the partitions and fill them; return some of the ids."""
    database = open_database(url)
    await migrate(database)
    connection = await asyncpg.connect(url)
    size = -(-events // partitions)
    end = await connection.fetchval(
        "SELECT max((regexp_match(pg_get_expr(relpartbound, oid), 'TO \\(''(\\d+)'))[1]::bigint) FROM pg_class"
        " WHERE relispartition AND relname LIKE 'events%' AND relkind = 'r'"
    )
    for first in range(end, events + 2 * size, size):
        await connection.execute(f"CREATE TABLE events_p{first} (LIKE events INCLUDING ALL)")
        await connection.execute(
            f"ALTER TABLE events ATTACH PARTITION events_p{first} FOR VALUES FROM ({first}) TO ({first + size})"
        )
    for first in range(1, events, 500_000):
        await connection.execute(_FILL.format(devices=_DEVICES), first, min(first + 499_999, events))
        print(f"{first:,}", end=" ", file=sys.stderr, flush=True)
    await connection.execute("UPDATE head SET position = $1", events)
    await PartitionCare(database, lambda: datetime.now(UTC)).look_after()
    await connection.execute("VACUUM ANALYZE")
    ids = await connection.fetch(
        "SELECT id FROM events WHERE position = ANY($1::bigint[])", random.sample(range(1, events), _ASKED)
    )
    await connection.close()
    await database.close()
    return [str(row["id"]) for row in ids]


def questions(events: int, ids: list[str]) -> dict[str, Callable[[], str]]:
    """Return the kinds of pages, each with who asks for one of them."""

    def device() -> str:
        return f"e00fce68{random.randrange(_DEVICES):016x}"

    def at(position: int) -> str:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(1785000000 + position // 10))

    def between() -> str:
        first = random.randrange(events)
        return f"since={at(first)}&until={at(first + 36_000)}"

    return {
        "newest": lambda: "events?order=desc",
        "after a position": lambda: f"events?after={random.randrange(events)}",
        "a device, newest": lambda: f"events?order=desc&device={device()}",
        "a device, oldest": lambda: f"events?device={device()}",
        "an unknown device": lambda: f"events?device=nobody{random.randrange(1000)}",
        "a name, newest": lambda: f"events?order=desc&name=name{random.randrange(10)}",
        "an hour": lambda: f"events?{between()}",
        "a device within an hour": lambda: f"events?{between()}&device={device()}",
        "one event": lambda: f"events/{random.choice(ids)}",
    }


def main() -> None:
    """Fill, ask, and print the 50th and 95th of a hundred of each kind."""
    events, partitions = (int(number) for number in (*sys.argv[1:], "20000000", "30")[:2])
    url = debian_server().fresh_database()
    ids = asyncio.run(fill(url, events, partitions))
    with tempfile.TemporaryDirectory() as folder, Server(Path(folder), _CONFIG.format(url=url)) as server:
        asked = questions(events, ids)
        took: dict[str, list[float]] = {kind: [] for kind in asked}
        for _ in range(_ASKED):
            for kind, question in asked.items():
                began = time.perf_counter()
                with urllib.request.urlopen(f"{server.url}/api/v1/{question()}") as answer:
                    answer.read()
                took[kind].append(time.perf_counter() - began)
    for kind, seconds in took.items():
        hundredths = statistics.quantiles(seconds, n=100)
        print(f"{kind}: p50 {hundredths[49] * 1000:.1f} ms, p95 {hundredths[94] * 1000:.1f} ms")


if __name__ == "__main__":
    main()
