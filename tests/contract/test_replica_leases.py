"""What protocols.Leases promises of processes on one PostgreSQL: one holder at a time, spread, and moved in time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from ingest.leases import Lease
from storage.engine import Database
from storage.replicas import SqlLeases
from tests.support.fresh import ALL, SQLITE
from tests.support.gated_database import GatedDatabase
from tests.support.replica import Replica
from tests.support.server import PATIENCE_SECONDS
from tests.support.stored import rows, run

STORES = [store for store in ALL if store != SQLITE]
HANDLERS = tuple(f"handler/{number}" for number in range(6))
STREAMS = ("stream/fleet/1", "stream/fleet/2")
SETTLED = 4  # rounds in which all has found its place


async def settle(*replicas: Replica) -> list[Sequence[str]]:
    """Let each go round some times, by turns; what each holds then."""
    for _ in range(SETTLED):
        held = [await replica.go_round() for replica in replicas]
    return held


def some(database: Database, count: int, *wants: str) -> list[Replica]:
    """Replicas that want the same."""
    return [Replica(database, f"replica-{number}", *wants) for number in range(count)]


async def test_one_alone_has_all(database: Database) -> None:
    """At its first round."""
    (one,) = some(database, 1, *HANDLERS, *STREAMS)
    assert await one.go_round() == sorted([*HANDLERS, *STREAMS])


async def test_they_spread_and_two_streams_are_on_two(database: Database) -> None:
    """Who comes later gets its share; each lease is held once."""
    one, other, third = some(database, 3, *HANDLERS, *STREAMS, "duty/a", "duty/b")
    await one.go_round()
    held = await settle(one, other)
    assert [len(names) for names in held] == [5, 5]
    assert all(len([name for name in names if name.startswith("stream/")]) == 1 for names in held)
    held = await settle(one, other, third)
    assert sorted(len([name for name in names if name.startswith("handler/")]) for names in held) == [2, 2, 2]
    assert sorted(name for names in held for name in names) == sorted([*HANDLERS, *STREAMS, "duty/a", "duty/b"])


async def test_what_is_spread_stays_where_it_is(database: Database) -> None:
    """Once all has its place, no round changes anything: each epoch stays."""
    replicas = some(database, 3, *HANDLERS, *STREAMS, "stream/other/1", "stream/third/1", "stream/third/2")
    await settle(*replicas)
    before = await rows(database, "SELECT name, holder, epoch FROM leases ORDER BY name")
    await settle(*replicas)
    assert await rows(database, "SELECT name, holder, epoch FROM leases ORDER BY name") == before


async def test_what_the_dead_held_moves_after_ten_seconds(database: Database) -> None:
    """Not before: it may be slow, and not later."""
    one, other = some(database, 2, *STREAMS)
    await settle(one, other)
    await one.be_silent(9.5)
    assert len(await other.go_round()) == 1
    await one.be_silent(0.6)
    assert list(await other.go_round()) == sorted(STREAMS)


async def test_a_lease_of_before_the_clock_was_set_back_ends(database: Database) -> None:
    """A row that ends later than any can that is made now holds nothing."""
    one, other = some(database, 2, *STREAMS)
    await settle(one, other)
    await one.be_silent(-3600)
    assert list(await other.go_round()) == sorted(STREAMS)


async def test_what_one_does_not_want_another_has(database: Database) -> None:
    """Where configurations differ, as while they are changed, each gets what it knows; what is unknown is let go."""
    one, other = Replica(database, "one", *HANDLERS), Replica(database, "other", *HANDLERS, "handler/new")
    held = await settle(one, other)
    assert "handler/new" in held[1]
    other.wants = HANDLERS
    assert "handler/new" not in (await settle(one, other))[1]


@asynccontextmanager
async def leasing(database: Database, holder: str, *names: str) -> AsyncIterator[tuple[SqlLeases, list[Lease]]]:
    """A process's leases, which go round in hundredths of a second."""
    leases = SqlLeases(database, holder, round_seconds=0.02)
    wanted = [leases.lease(name) for name in names]
    running = asyncio.create_task(leases.run())
    try:
        yield leases, wanted
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def until(condition: Callable[[], bool]) -> None:
    """Return when it holds."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110 - it is there to be read
            await asyncio.sleep(0.01)


async def test_who_leaves_hands_over_at_once_and_still_lives(database: Database, another: Database) -> None:
    """Its leases are another's in the next round; its row stays, for it listens on until it has stopped."""
    async with leasing(database, "one", *STREAMS) as (one, ours):
        await until(lambda: all(lease.held for lease in ours))
        async with leasing(another, "other", *STREAMS) as (_, theirs):
            await until(lambda: one.peers == 1)
            await one.leave()
            assert not any(lease.held for lease in ours)
            await until(lambda: all(lease.held for lease in theirs))
            assert len(await rows(database, "SELECT 1 FROM replicas")) == 2
            await one.close()
            assert await rows(database, "SELECT holder FROM replicas") != []


async def test_who_came_just_now_takes_over(database: Database, another: Database) -> None:
    """A process that leaves looks for others before: its last look may be a second old. Alone it keeps all."""
    one, other = SqlLeases(database, "one"), SqlLeases(another, "other")
    ours, theirs = one.lease(STREAMS[0]), other.lease(STREAMS[0])
    await one.join()
    await one.leave()
    assert ours.held
    await other.join()
    await one.leave()
    assert not ours.held
    await other.join()
    assert theirs.held


async def test_who_hears_nothing_of_its_store_holds_nothing(database: Database) -> None:
    """A while before others may take it; with the store it has all again."""
    gated = GatedDatabase(database)
    ahead = [0.0]
    leases = SqlLeases(gated, "one", round_seconds=0.02, clock=lambda: asyncio.get_running_loop().time() + ahead[0])
    lease = leases.lease(STREAMS[0])
    running = asyncio.create_task(leases.run())
    try:
        await lease.acquired()
        gated.away = True
        await until(lambda: gated.refused > 1)
        assert lease.held
        ahead[0] = 8.5
        await lease.lost()
        gated.away = False
        await lease.acquired()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_round_that_freezes_holds_up_nobody_for_long(database: Database, another: Database) -> None:
    """Its transaction is cut off, as every one that writes: the other goes on."""
    one = Replica(database, "one", *STREAMS)
    await one.go_round()
    frozen = asyncio.Event()

    async def freeze() -> None:
        async with another._writer.begin() as connection:  # type: ignore[attr-defined]
            await connection.exec_driver_sql("SELECT set_config('idle_in_transaction_session_timeout', '2s', true)")
            await connection.exec_driver_sql("UPDATE replicas SET wants = wants")
            frozen.set()
            await asyncio.sleep(60)

    freezing = asyncio.create_task(freeze())
    try:
        await frozen.wait()
        async with leasing(database, "two", *STREAMS) as (_, wanted):
            async with asyncio.timeout(PATIENCE_SECONDS):
                await asyncio.wait(
                    [asyncio.ensure_future(lease.acquired()) for lease in wanted], return_when="FIRST_COMPLETED"
                )
    finally:
        freezing.cancel()
        await asyncio.gather(freezing, return_exceptions=True)


async def test_names_that_nobody_lives_for_are_free(database: Database) -> None:
    """A lease whose holder has no row is taken, whatever is written in its own."""
    await run(database, "INSERT INTO leases (name, holder, epoch) VALUES ('handler/0', 'gone', 7)")
    (one,) = some(database, 1, "handler/0")
    assert await one.go_round() == ["handler/0"]
    assert await rows(database, "SELECT holder, epoch FROM leases") == [("replica-0", 8)]
