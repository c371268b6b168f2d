"""How PostgreSQL goes about what verify asks: a page costs as much in a large store as in a small one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from random import Random

import pytest

from storage.books.posting import Posting
from storage.engine import open_database
from storage.store import SqlStore
from storage.tables import sightings
from storage.verify import blocks, ids, references
from storage.verify.balance import light
from tests.support.explained import Listening, Plan, plans_of
from tests.support.fresh import DEBIAN, POSTGRES
from tests.support.partitioned import small_partitions
from tests.support.records import NOW, numbered

STORES = (POSTGRES, DEBIAN)
_ROWS = 4096  # a partition's, a block's
_PARTITIONS = 4
_AHEAD = 2  # partitions, empty


@pytest.fixture
async def listening(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Listening]:
    """PostgreSQL with small partitions, never analysed."""
    database = Listening(open_database(postgres_url))
    await small_partitions(database, monkeypatch, _ROWS)
    yield database
    await database.close()


def faults(plan: Plan) -> list[str]:
    """What a plan should not do."""
    found = [f"reads all of {name}" for name in plan.scanned() if name.startswith(("events", "ids", "sightings"))]
    if len(plan.partitions()) > _AHEAD + 1:
        found.append(f"looks at {sorted(plan.partitions())}")
    return found


async def test_no_page_and_no_light_look_reads_a_whole_table(
    listening: Listening, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each statement goes by an index to the partitions that it concerns, also where the planner knows nothing."""
    monkeypatch.setattr(ids, "_STEP", 1024)
    monkeypatch.setattr(references, "_STEP", 64)
    store = SqlStore(listening, lambda: NOW)
    for start in range(0, _PARTITIONS * _ROWS, 1024):
        await store.commit(numbered(1024, start))
    await store.commit(numbered(1024))  # copies
    await Posting(listening).post_all()
    await store.commit(numbered(100, _PARTITIONS * _ROWS))
    listening.statements.clear()

    assert await listening.read(light, Random(1)) == []
    for block in range(_PARTITIONS):
        assert (await listening.read(blocks.look, block, 1)).findings == []
    assert (await listening.read(ids.look_at_events, _ROWS)).findings == []
    assert (await listening.read(ids.look_at_ids, ids.FIRST_ID)).findings == []
    assert (await listening.read(references.look, 0, table=sightings)).counted == 64

    plans = await plans_of(postgres_url, listening.statements)
    assert len(plans) > 30
    assert [f"{faults(plan)} {plan}" for plan in plans if faults(plan)] == []
