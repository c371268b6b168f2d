"""Losses are read number by number, though they are kept as ranges; on SQLite and on PostgreSQL."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from ingest.sequences import LossRange, LossState
from storage.cursors import SqlCursors
from storage.engine import Database
from storage.queries.losses import LossFilter, losses_page
from storage.queries.page import PageSpan
from storage.rows import to_micros
from storage.sequences import AUDITOR, Followed
from tests.support.dispatching import NOON

RANGES = (
    LossRange(1, "fleet", "tracker", "dev1", 5, 9, LossState.LOST, to_micros(NOON), 0),
    LossRange(6, "fleet", "tracker", "dev1", 10, 10, LossState.RECOVERED, to_micros(NOON), 0),
    LossRange(9, "other", "tracker", "dev2", 1, 3000, LossState.MISSING, to_micros(NOON + timedelta(hours=1)), 0),
    LossRange(4000, "other", "second", "dev1", 7, 7, LossState.LOST, to_micros(NOON), 0),
)
ALL = [(row.device, row.first + at) for row in RANGES for at in range(row.last - row.first + 1)]


@pytest.fixture
async def filled(database: Database) -> Database:
    """A store with losses."""
    cursor = await SqlCursors(database).acquire(AUDITOR, holder="one", begin="beginning")
    assert cursor is not None
    await cursor.advance(0, followed=Followed(ranges=RANGES))
    return database


async def numbers(database: Database, wanted: LossFilter, span: PageSpan) -> tuple[list[tuple[str, int]], int | None]:
    """Devices and numbers of a page, and where to go on."""
    page = await database.read(losses_page, wanted, span)
    assert len(page.rows) <= span.limit
    return [(row.device, row.sequence) for row in page.rows], page.next


@pytest.mark.parametrize("limit", [1, 7, 1000, 5000])
async def test_pages_go_through_ranges(filled: Database, limit: int) -> None:
    """A range is as many rows, over as many pages as it takes, from either end, and each number has its own id."""
    found: list[tuple[str, int]] = []
    after: int | None = 0 if limit > 1 else 3000
    while after is not None:
        page, after = await numbers(filled, LossFilter(), PageSpan(limit, after=after))
        found += page
    assert found == (ALL if limit > 1 else ALL[-9:])

    backwards: list[tuple[str, int]] = []
    before: int | None = None if limit > 1 else 20
    while True:
        page, before = await numbers(filled, LossFilter(), PageSpan(limit, before=before, descending=True))
        backwards += page
        if before is None:
            break
    assert backwards[::-1] == (ALL if limit > 1 else ALL[:17])


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        ({"source": "fleet"}, 6),
        ({"product": "second"}, 1),
        ({"device": "dev1"}, 7),
        ({"state": "lost"}, 6),
        ({"state": "missing"}, 3000),
        ({"since": NOON + timedelta(hours=1)}, 3000),
        ({"until": NOON + timedelta(hours=1)}, 7),
        ({"source": "other", "state": "lost"}, 1),
    ],
)
async def test_filters(filled: Database, wanted: dict[str, Any], count: int) -> None:
    """Source, product, device, state and time choose which numbers are shown."""
    page = await filled.read(losses_page, LossFilter(**wanted), PageSpan(5000))

    assert len(page.rows) == count
    assert page.next is None


async def test_a_page_between_two_positions(filled: Database) -> None:
    """`after` and `before` lie within ranges or between them."""
    assert (await numbers(filled, LossFilter(), PageSpan(100, after=3, before=6)))[0] == [("dev1", 8), ("dev1", 9)]
    assert (await numbers(filled, LossFilter(), PageSpan(100, after=6, before=9)))[0] == []
    assert (await numbers(filled, LossFilter(), PageSpan(100, after=4000)))[0] == []
