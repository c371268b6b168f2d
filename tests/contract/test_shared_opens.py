"""The budget of opens that processes share: one host counts them all, and what died or closed does not last."""

from __future__ import annotations

import asyncio

from ingest.reconnect import FULL_SECONDS, MOST_OPEN, MOST_OPENS, OPENS_SECONDS
from storage.engine import Database
from storage.opens import SharedOpens, claim_open
from tests.support.fresh import ALL, SQLITE
from tests.support.gated_database import GatedDatabase
from tests.support.replica import Replica
from tests.support.server import PATIENCE_SECONDS
from tests.support.stored import rows, run

STORES = [store for store in ALL if store != SQLITE]
HOST = "api.particle.io:443"
OPEN = "SELECT count(*) FROM stream_opens WHERE NOT closed"


async def living(database: Database, another: Database) -> tuple[SharedOpens, SharedOpens]:
    """Two processes that live."""
    for holder in ("one", "other"):
        await Replica(database, holder).go_round()
    return SharedOpens(database, "one"), SharedOpens(another, "other")


async def open_many(database: Database, count: int, holder: str, seconds_ago: float) -> None:
    """Let a process have opened so many, so long ago."""
    await run(
        database,
        "INSERT INTO stream_opens (host, holder, opened_at) "  # noqa: S608
        f"SELECT '{HOST}', '{holder}', EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 - {round(seconds_ago * 1e6)} "
        f"FROM generate_series(1, {count})",
    )


async def until_open(database: Database, count: int) -> None:
    """Return when so many last."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await rows(database, OPEN) != [(count,)]:  # noqa: ASYNC110 - it is written behind the caller's back
            await asyncio.sleep(0.01)


async def test_two_processes_have_one_budget(database: Database, another: Database) -> None:
    """Ninety in five minutes, however they share them; another host has its own."""
    one, other = await living(database, another)
    await open_many(database, MOST_OPENS - 2, "gone", OPENS_SECONDS - 1)
    assert [await one.claim(HOST), await other.claim(HOST)] == [0, 0]
    assert 0 < await one.claim(HOST) <= OPENS_SECONDS
    assert await other.claim(HOST) > 0
    assert await other.claim("elsewhere:443") == 0
    await run(database, "UPDATE stream_opens SET opened_at = opened_at - 2000000 WHERE holder = 'gone'")
    assert await other.claim(HOST) == 0


async def test_what_lasts_is_bounded_too(database: Database, another: Database) -> None:
    """Ninety at a time, also where they were opened slowly; what is closed, or dead, makes room."""
    one, other = await living(database, another)
    neighbour = Replica(database, "neighbour")
    await neighbour.go_round()
    await open_many(database, MOST_OPEN - 1, "neighbour", OPENS_SECONDS + 1)
    assert await one.claim(HOST) == 0
    assert await other.claim(HOST) == FULL_SECONDS
    one.closed(HOST)
    await until_open(database, MOST_OPEN - 1)
    assert await other.claim(HOST) == 0
    assert await one.claim(HOST) == FULL_SECONDS
    await neighbour.be_silent(11)
    assert await one.claim(HOST) == 0


async def test_an_open_whose_answer_was_lost_does_not_last(database: Database, another: Database) -> None:
    """The next claim of that process settles it."""
    one, _ = await living(database, another)
    await database.write(claim_open, "one", HOST, ())
    assert await one.claim(HOST) == 0
    assert await rows(database, OPEN) == [(1,)]


async def test_without_the_store_a_process_opens_a_third(database: Database, another: Database) -> None:
    """Three of them stay within the bound, and a stream is not away for as long as the store is."""
    await living(database, another)
    gated = GatedDatabase(database)
    opens = SharedOpens(gated, "one")
    gated.away = True
    granted = 0
    while await opens.claim(HOST) == 0:
        granted += 1
        opens.closed(HOST)
    assert granted == MOST_OPENS // 3
