"""How long pages of many devices take: `python -m tests.bench.device_pages [DEVICES]`.

SQLite and Debian's PostgreSQL, filled by themselves: two products, two sources, each device heard last 0.1 s before the
next one, a tenth of them silent; one in fifty misses numbers, in each product and source. Asked over HTTP one after the
other: each filter in each order, the first page and the one behind it, each twenty times.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, text

from storage.engine import open_database
from storage.migrate import migrate
from tests.bench.stores import DEBIAN, SQLITE, Stores
from tests.support.server import Server

_ASKED = 20
_DAY = 86_400_000_000
_FILTERS = (
    "",
    "silent=true",
    "missing=true",
    "silent=true&missing=true",
    "product=tracker",
    "product=tracker&silent=true",
)
_ORDERS = ("device", "-device", "heard", "-heard")
_CONFIG = """
[store]
url = "{url}"
retention = "forever"

[sources.fleet]
product = "tracker"
silent_after = "{silent_after}s"

[sources.other]
product = "boron"
silent_after = "{silent_after}s"
"""
_NUMBERS = {
    "sqlite": "WITH RECURSIVE s(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM s WHERE i < :count - 1)",
    "postgresql": "WITH s AS (SELECT generate_series(0, CAST(:count AS BIGINT) - 1) AS i)",
}
_IDS = {
    "sqlite": "printf('e00fce68%016x', i * 48271 % :count)",
    "postgresql": "'e00fce68' || lpad(to_hex(i * 48271 % :count), 16, '0')",
}
_FILL = (
    """
    INSERT INTO devices
      (product, device, source, position, first_at, last_at, heard_at, firmware, day, today, before)
    {numbers}
    SELECT CASE i % 3 WHEN 0 THEN 'boron' ELSE 'tracker' END, {id}, CASE i % 5 WHEN 0 THEN 'other' ELSE 'fleet' END,
      i, :now - 30 * {day}, :now - i * 100000, :now - i * 100000, '91', (:now - i * 100000) / {day}, 7, 300.5 FROM s
    """,
    """
    INSERT INTO products (product, devices, first_at, last_at, day, today, before)
    SELECT product, count(*), min(first_at), max(last_at), max(day), count(*), sum(before) FROM devices GROUP BY product
    """,
    """
    INSERT INTO sequences (product, device, state, number, at) SELECT product, device, :state, 7, heard_at FROM devices
    """,
    """
    INSERT INTO losses (id, source, product, device, first, last, state, noticed_at, due_at)
    SELECT position + 1, source, product, device, 5, 5, CASE position % 49 WHEN 0 THEN 'lost' ELSE 'recovered' END,
      heard_at, heard_at FROM devices WHERE position % 7 = 0
    """,
)


async def fill(url: str, count: int) -> None:
    """Write the rows of so many devices as books and Auditor would."""
    database = open_database(url)
    await migrate(database)

    def write(connection: Connection) -> None:
        dialect = connection.dialect.name
        values = {"now": int(time.time() * 1e6), "count": count, "state": bytes(90)}
        for statement in _FILL:
            words = text(statement.format(numbers=_NUMBERS[dialect], id=_IDS[dialect], day=_DAY))
            connection.execute(words, {name: values[name] for name in words.compile().params})

    await database.alter(write)
    await database.close()


def pages(server: Server) -> Iterator[tuple[str, list[float]]]:
    """Ask for each kind of page; yield it with the seconds that its answers took."""
    yield "products", [_asked(server, "products")[0] for _ in range(_ASKED)]
    yield "silences", [_asked(server, "silences")[0] for _ in range(_ASKED)]
    for wanted, order in product(_FILTERS, _ORDERS):
        question = f"devices?order={order}&{wanted}"
        following = _asked(server, question)[1]["next"]
        yield question, [_asked(server, question)[0] for _ in range(_ASKED)]
        yield f"{question}, the next", [_asked(server, f"{question}&after={following}")[0] for _ in range(_ASKED)]


def _asked(server: Server, question: str) -> tuple[float, Any]:
    began = time.perf_counter()
    with urllib.request.urlopen(f"{server.url}/api/v1/{question}") as answer:
        body = answer.read()
    return time.perf_counter() - began, json.loads(body)


def main() -> None:
    """Fill, ask, and print the kinds of pages by what they take, the slowest first."""
    count = int((*sys.argv[1:], "1000000")[0])
    silent_after = count * 9 // 100  # seconds; they were heard a tenth of a second apart
    with tempfile.TemporaryDirectory() as name:
        stores = Stores(Path(name))
        for kind in (SQLITE, DEBIAN):
            with stores.fresh(kind) as url, tempfile.TemporaryDirectory(dir=name) as folder:
                asyncio.run(fill(url, count))
                with Server(Path(folder), _CONFIG.format(url=url, silent_after=silent_after)) as server:
                    found = sorted(pages(server), key=lambda page: -statistics.median(page[1]))
            for question, seconds in found:
                middle, most = statistics.median(seconds) * 1000, max(seconds) * 1000
                print(f"{kind}, {question}: p50 {middle:.1f} ms, at most {most:.1f} ms")


if __name__ == "__main__":
    main()
