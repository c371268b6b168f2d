"""Coverage by several processes on one database: who lives is not taken for dead, and who died covers nothing."""

from __future__ import annotations

import asyncio

from ingest.event import Cause, Origin
from storage.engine import Database
from tests.support.fresh import ALL, SQLITE
from tests.support.replica import Replica
from tests.support.stored import rows

STORES = [store for store in ALL if store != SQLITE]
FLEET = Origin("tracker", "fleet", "sse")
HOOK = Origin("tracker", "fleet", "webhook")


async def two(database: Database, another: Database) -> tuple[Replica, Replica]:
    """Two processes that live."""
    one, other = Replica(database, "one", "duty/any"), Replica(another, "other", "duty/any")
    await one.go_round()
    await other.go_round()
    return one, other


async def gaps(database: Database) -> list[tuple[int, int | None, str]]:
    """Since, until and cause of all gaps."""
    found = await rows(database, "SELECT since, until, cause FROM gaps ORDER BY since, id")
    return [(since, until, cause) for since, until, cause in found]


async def covered(database: Database) -> list[tuple[str, int, int, bool]]:
    """Holder, since, until and whether it has ended, of each interval."""
    found = await rows(database, "SELECT holder, since, until, ended FROM coverage ORDER BY id")
    return [(holder, since, until, ended) for holder, since, until, ended in found]


async def test_who_starts_beside_a_living_one_invents_no_gap(database: Database, another: Database) -> None:
    """However long ago the other's last proof is: a quiet stream may have none for long."""
    one, other = await two(database, another)
    await one.coverage.open(FLEET, 1, ago=100)
    opened = await other.coverage.open(FLEET, 2, ago=0)

    assert list(opened.found) == []
    assert await gaps(database) == []
    assert [ended for *_, ended in await covered(database)] == [False, False]


async def test_who_was_silent_for_three_seconds_is_dead(database: Database, another: Database) -> None:
    """It covers until where it last listened; before that it lives."""
    one, other = await two(database, another)
    left = await one.coverage.open(FLEET, 1, ago=100)
    await one.coverage.extend(left.interval, ago=50)
    await one.be_silent(1.0)
    assert list((await other.coverage.open(FLEET, 2)).found) == []
    await one.be_silent(2.1)

    opened = await other.coverage.open(FLEET, 1)

    (_, _, died, ended), (_, began, *_), _ = await covered(database)
    assert ended
    assert await gaps(database) == [(died, began, "down")]
    assert len(opened.found) == 1


async def test_who_ends_does_not_rely_on_the_dead(database: Database, another: Database) -> None:
    """A process that died holding the other stream covers nothing for this one."""
    one, other = await two(database, another)
    left = await one.coverage.open(FLEET, 1, ago=100)
    ours = await other.coverage.open(FLEET, 2, ago=100)
    await one.coverage.extend(left.interval, ago=50)
    await other.coverage.extend(ours.interval, ago=40)
    await one.be_silent(30)

    found = await other.coverage.end(ours.interval, Cause.CLOSED, ago=40)

    assert [gap.cause for gap in found] == [Cause.CLOSED]
    (_, _, until, _) = (await covered(database))[1]
    assert await gaps(database) == [(until, None, "closed")]


async def test_who_was_taken_for_dead_and_listens_on_covers(database: Database, another: Database) -> None:
    """Its next extension says that it lives, as after an outage of the store; the gap is taken back."""
    one, other = await two(database, another)
    before = await one.coverage.open(FLEET, 3, ago=300)
    await one.coverage.end(before.interval, Cause.IDLE, ago=200)
    first = await one.coverage.open(FLEET, 1, ago=100)
    known = await gaps(database)
    await one.coverage.extend(first.interval, ago=20)
    await one.be_silent(5)
    second = await other.coverage.open(FLEET, 2, ago=10)
    await other.coverage.end(second.interval, Cause.CLOSED, ago=5)
    assert [until is None for _, until, _ in await gaps(database)] == [False, False, True]
    await one.go_round()
    await one.coverage.extend(first.interval, ago=4)

    assert await gaps(database) == known
    assert [gap.cause for gap in await one.coverage.end(first.interval, Cause.STOPPED)] == [Cause.STOPPED]


async def test_two_that_end_together_leave_one_gap(database: Database, another: Database) -> None:
    """Neither takes the other for one that still listens."""
    one, other = await two(database, another)
    for _ in range(5):
        first = await one.coverage.open(FLEET, 1)
        second = await other.coverage.open(FLEET, 2)
        await one.coverage.extend(first.interval)
        await asyncio.gather(
            one.coverage.end(first.interval, Cause.IDLE), other.coverage.end(second.interval, Cause.IDLE)
        )
        assert [until for _, until, _ in await gaps(database)].count(None) == 1


async def test_the_stop_of_one_of_two_endpoints_is_no_gap(database: Database, another: Database) -> None:
    """Requests go to the other one; the stop of both is a gap."""
    one, other = await two(database, another)
    first = await one.coverage.open(HOOK, 0, ago=100)
    second = await other.coverage.open(HOOK, 0, ago=100)

    assert list(await one.coverage.end(first.interval, Cause.STOPPED, ago=90)) == []
    again = await one.coverage.open(HOOK, 0, ago=80)
    assert list(again.found) == []
    assert list(await other.coverage.end(second.interval, Cause.STOPPED, ago=50)) == []
    assert [gap.cause for gap in await one.coverage.end(again.interval, Cause.STOPPED)] == [Cause.STOPPED]


async def test_a_stream_is_relieved_when_another_has_listened_beside_it(database: Database, another: Database) -> None:
    """Both are proven for a second together; not by another stream, nor by one who died."""
    one, other = await two(database, another)
    ours = await one.coverage.open(FLEET, 1, ago=100)
    await one.coverage.extend(ours.interval, ago=10)
    elsewhere = await other.coverage.open(FLEET, 2, ago=50)
    await other.coverage.extend(elsewhere.interval, ago=10)
    assert not await one.coverage.is_relieved(FLEET, 1)

    theirs = await other.coverage.open(FLEET, 1, ago=10.5)
    await other.coverage.extend(theirs.interval, ago=1)
    assert not await one.coverage.is_relieved(FLEET, 1)  # ours is proven for half a second beside it
    await one.coverage.extend(ours.interval, ago=9)
    assert await one.coverage.is_relieved(FLEET, 1)
    await other.be_silent(4)
    assert not await one.coverage.is_relieved(FLEET, 1)


async def test_an_interval_of_an_older_version_lives_by_its_own_end(database: Database, another: Database) -> None:
    """A process that knew no replicas, and extended its interval within three seconds, is not taken for dead."""
    one, other = await two(database, another)
    await one.coverage.open(HOOK, 0, ago=0.5)
    await one.coverage.open(FLEET, 0, ago=5)
    await another.write(_forget_holders)

    await other.coverage.open(HOOK, 0)
    await other.coverage.open(FLEET, 0)

    assert [ended for *_, ended in await covered(database)] == [False, True, False, False]


def _forget_holders(connection: object) -> None:
    connection.exec_driver_sql("UPDATE coverage SET holder = NULL")  # type: ignore[attr-defined]
