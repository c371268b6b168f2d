"""How PostgreSQL goes about devices: a page, a step of the books and a gauge must not read all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import Connection, text

from storage.books import devices as books
from storage.books import pauses
from storage.books.sql import statement_of
from storage.engine import open_database
from storage.queries.device_rows import Silences
from storage.queries.devices import DeviceFilter, DeviceSpan, device_by_id, devices_page
from storage.queries.silences import count_silent, silences_page
from storage.store import SqlStore
from storage.transactions import transaction
from tests.support.explained import Listening, Plan, plans_of
from tests.support.fresh import POSTGRES
from tests.support.heard_devices import HOUR, NOW_MICROS
from tests.support.records import NOW, an_event

STORES = (POSTGRES,)
DEVICES = 30_000  # of fewer the planner rightly reads all
SILENCES = Silences(NOW_MICROS, {"fleet": 2 * HOUR, "other": None})
MOST_ROWS = 9_000  # that a part of a plan may give
FILL = """
INSERT INTO devices (product, device, source, position, first_at, last_at, heard_at, firmware, day, today, before)
SELECT 'tracker', 'd' || i, 'fleet', i, 1, 1, :now - i * 1000000, '91', 1, 1, 1 FROM generate_series(0, :count) AS i
"""
LOSSES = """
INSERT INTO losses (id, source, product, device, first, last, state, noticed_at, due_at)
SELECT i, 'fleet', 'tracker', 'd' || i, 1, 2, CASE WHEN i % 10 = 0 THEN 'lost' ELSE 'recovered' END, 1, 1
FROM generate_series(1, :count) AS i
"""
SEQUENCES = """
INSERT INTO sequences (product, device, state, number, at)
SELECT product, device, decode('00', 'hex'), 7, 1 FROM devices
"""


@transaction
def post(connection: Connection, after: int, end: int) -> None:
    """Post one step."""
    books.post(connection, after, end)
    pauses.post(connection, after, end)


@pytest.fixture
async def listening(postgres_url: str) -> AsyncIterator[Listening]:
    """PostgreSQL with many devices, a quarter of them silent, with numbers, some of them missing."""
    database = Listening(open_database(postgres_url))

    def fill(connection: Connection) -> None:
        connection.execute(statement_of(FILL), {"now": NOW_MICROS, "count": DEVICES})
        connection.execute(statement_of(LOSSES), {"count": DEVICES})
        connection.execute(text(SEQUENCES))

    await database.alter(fill)
    yield database
    await database.close()


def most_rows(plan: Plan) -> float:
    """How many rows the busiest part of a plan gave."""
    return max(float(node.get("Actual Rows", 0) * node.get("Actual Loops", 1)) for node in plan.nodes())


@pytest.mark.parametrize("analysed", [False, True])
async def test_no_page_reads_all_devices(listening: Listening, postgres_url: str, analysed: bool) -> None:
    """By the plan for its values and by the one for any: each goes by an index, and to few rows."""
    if analysed:
        await listening.alter(lambda connection: connection.execute(text("ANALYZE")) and None)
    await SqlStore(listening, lambda: NOW).commit([an_event(device=f"d{number}") for number in range(500)])
    await listening.write(post, 0, 500)
    for wanted in (DeviceFilter(), DeviceFilter(silent=True), DeviceFilter("tracker", missing=True)):
        for order in ("device", "heard"):
            for descending in (False, True):
                first = await listening.read(devices_page, wanted, DeviceSpan(50, order, descending), SILENCES)
                await listening.read(devices_page, wanted, DeviceSpan(50, order, descending, first.next), SILENCES)
    await listening.read(device_by_id, "d7", SILENCES)
    await listening.read(silences_page, SILENCES, 50)
    hot = list(listening.statements)
    await listening.read(count_silent, SILENCES)

    setting = next(statement.parameters for statement in hot if "set_config" in statement.text)
    plans = await plans_of(postgres_url, hot, f"SET LOCAL {setting[0]} = {setting[1]}")

    assert len(plans) > 60
    too_many = [plan for plan in plans if most_rows(plan) > MOST_ROWS]
    assert [(most_rows(plan), plan.mode, plan.statement) for plan in too_many] == []
