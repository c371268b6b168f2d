"""Every cursor keeps protocols.Cursor, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any, ParamSpec, TypeVar

import pytest
from sqlalchemy import select, update

from ingest.deliveries import LEASE_SECONDS, Parked, Seen
from ingest.errors import LeaseLost, StoreRewound, StoreUnavailable
from storage.clock import database_now
from storage.cursors import SqlCursor, SqlCursors
from storage.dead_letters import ALL as ALL_DEAD
from storage.dead_letters import Chosen, each_step, give_back
from storage.engine import Database, DataRefused, Work, open_database
from storage.leases import Leased
from storage.rewinds import Rewinds
from storage.tables import cursors as cursors_table
from storage.tables import deliveries
from tests.support.dispatching import NOON, Clock, Stage, an_event, staged
from tests.support.fresh import ALL
from tests.support.stored import run

STORES = ALL
P = ParamSpec("P")
T = TypeVar("T")
LATER = NOON + timedelta(hours=1)


@pytest.fixture
async def stage(url: str) -> AsyncIterator[Stage]:
    """A store with six events: of d1, d2 and no device, by turns."""
    async with staged(open_database(url), Clock()) as stage:
        await stage.commit([an_event(number, ("d1", "d2", None)[number % 3]) for number in range(6)])
        yield stage


def parked(position: int, device: str | None = "d1", **values: Any) -> Parked:
    """A row that failed once and is due."""
    row: dict[str, Any] = {"attempts": 1, "first_failed_at": NOON, "due_at": NOON, "error": "boom"} | values
    return Parked(position, device, **row)


async def taken(stage: Stage, holder: str = "one", handler: str = "h") -> SqlCursor:
    """The handler's cursor from the beginning."""
    cursor = await stage.cursors.acquire(handler, holder=holder, begin="beginning")
    assert cursor is not None
    return cursor


async def taken_over(stage: Stage, holder: str = "two") -> SqlCursor:
    """The cursor, after its lease ran out, in another process."""
    await stage.database.write(
        lambda connection: connection.execute(update(cursors_table).values(expires_at=1)) and None
    )
    cursor = await SqlCursors(stage.database).acquire("h", holder=holder, begin="now")
    assert cursor is not None
    return cursor


class LosesAnswers:
    """A database that carries out what is written and then, while it is `losing`, says that it is away."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.dialect = database.dialect
        self.losing = True

    async def write(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See Database."""
        answer = await self._database.write(work, *args, **kwargs)
        if self.losing:
            raise StoreUnavailable("no answer")
        return answer

    async def read(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See Database."""
        return await self._database.read(work, *args, **kwargs)

    async def alter(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See Database."""
        return await self._database.alter(work, *args, **kwargs)

    async def close(self) -> None:
        """See Database."""


async def redrive(stage: Stage, chosen: Chosen = ALL_DEAD, handler: str = "h") -> int:
    """Give dead letters back; how many."""
    return sum([count async for count in each_step(stage.database, give_back, handler, chosen)])


async def rows(stage: Stage) -> list[tuple[str, int, int]]:
    """(handler, position, attempts) of every parked row."""
    columns = select(deliveries.c.handler, deliveries.c.position, deliveries.c.attempts).order_by(deliveries.c.position)
    return await stage.database.read(lambda connection: [tuple(row) for row in connection.execute(columns)])


async def test_a_new_handler_begins_where_it_is_told(stage: Stage) -> None:
    """`now` begins behind the last event, `beginning` before the first."""
    late = await stage.cursors.acquire("late", holder="one", begin="now")
    early = await stage.cursors.acquire("early", holder="one", begin="beginning")

    assert late is not None
    assert early is not None
    assert (late.position, early.position) == (6, 0)


async def test_a_cursor_keeps_its_place(stage: Stage) -> None:
    """Whoever takes a cursor next goes on where it was, whatever `begin` says."""
    cursor = await taken(stage)
    await cursor.advance(4)
    await cursor.release()

    again = await stage.cursors.acquire("h", holder="two", begin="now")

    assert again is not None
    assert again.position == 4


async def test_of_two_holders_the_older_changes_nothing(stage: Stage) -> None:
    """After a takeover no write of the old holder reaches the cursor, the parked rows, or the new lease."""
    older = await taken(stage)
    await older.advance(1, [parked(1)])
    newer = await taken_over(stage)

    with pytest.raises(LeaseLost):
        await older.advance(6, [parked(2), parked(1, attempts=9)], [1])
    await older.release()

    await newer.advance(3)
    assert await rows(stage) == [("h", 1, 1)]
    assert (await newer.lag()).position == 3


async def test_a_held_cursor_is_not_given_away(stage: Stage) -> None:
    """While the lease holds nobody else gets the cursor; released, the next one has it at once."""
    holder = await taken(stage)
    other = SqlCursors(stage.database)
    if stage.database.dialect == "sqlite":  # what `other` could still do once, for a process that was killed
        holder = await taken(Stage(stage.database, stage.clock), "two")
        other = stage.cursors

    assert await other.acquire("h", holder="three", begin="now") is None
    await holder.release()
    assert await other.acquire("h", holder="three", begin="now") is not None


async def test_a_process_that_is_started_again_waits_for_no_lease_on_sqlite(stage: Stage) -> None:
    """On SQLite a killed server's lease does not delay the next one; on PostgreSQL replicas respect it."""
    await taken(stage, "killed")

    cursor = await SqlCursors(stage.database).acquire("h", holder="restarted", begin="now")

    assert (cursor is not None) == (stage.database.dialect == "sqlite")


async def test_a_cursor_that_was_put_back_is_not_moved_on(stage: Stage) -> None:
    """Where the row is not where this process left it, an advance changes nothing and says that it was put back."""
    cursor = await taken(stage)
    await cursor.advance(4)
    await run(stage.database, "UPDATE cursors SET position = 2")

    with pytest.raises(StoreRewound):
        await cursor.advance(5, [parked(5)])
    assert await rows(stage) == []
    assert (await cursor.lag()).position == 2


async def test_a_cursor_does_not_pass_the_last_position(stage: Stage) -> None:
    """A cursor is not moved to a position that was not given yet, nor by a reader that has been beyond it."""
    cursor = await taken(stage)
    for position, seen in ((7, None), (3, Seen(7, an_event(1).id))):
        with pytest.raises(StoreRewound):
            await (await taken(stage)).advance(position, seen=seen)
    assert (await cursor.lag()).position == 0


async def test_a_cursor_does_not_pass_other_events_than_were_read(stage: Stage) -> None:
    """Where another event has the position of the last one that was read, what was read is not what is there now."""
    known = await stage.feed.read(0, 6)
    cursor = await taken(stage)
    await cursor.advance(3, seen=Seen(5, known[4].id))

    with pytest.raises(StoreRewound):
        await cursor.advance(5, seen=Seen(5, an_event(99).id))
    assert (await cursor.lag()).position == 3


async def test_an_advance_whose_answer_was_lost_can_be_repeated(stage: Stage) -> None:
    """Where a move was committed and its answer lost, the next one goes on from where the row is."""
    cursor = await taken(stage)
    database = LosesAnswers(stage.database)
    holding = SqlCursor(database, "h", Leased(1, cursor.position, 6, 0, 0, 0, None, None, None), Rewinds())
    for position in (2, 3):
        with pytest.raises(StoreUnavailable):
            await holding.advance(position, [parked(position)])
    database.losing = False

    await holding.advance(3, [parked(2), parked(3)])
    assert (await cursor.lag()).position == holding.position == 3


@pytest.mark.parametrize(
    ("ahead", "free"), [(-1, True), (LEASE_SECONDS, False), (3 * LEASE_SECONDS, True), (3600, True)]
)
async def test_a_lease_that_nobody_can_have_made_is_taken_over(ahead: int, free: bool, stage: Stage) -> None:
    """A lease from when the database's clock was ahead holds nobody up; an advance then makes one that holds."""
    older = await taken(stage)
    ends = await stage.database.read(database_now) + ahead * 1_000_000
    await run(stage.database, f"UPDATE cursors SET expires_at = {ends}")  # noqa: S608 - a number

    newer = await stage.cursors.acquire("h", holder="two", begin="now")

    assert (newer is not None) == free
    if newer is not None:
        with pytest.raises(LeaseLost):
            await older.advance(1)
        await newer.advance(1)
        assert await stage.cursors.acquire("h", holder="three", begin="now") is None


async def test_every_advance_renews_the_lease(stage: Stage) -> None:
    """A lease that is about to end holds again after an advance, even one that stays where it is."""
    cursor = await taken(stage)
    await stage.database.write(
        lambda connection: connection.execute(update(cursors_table).values(expires_at=1)) and None
    )

    await cursor.advance(cursor.position)

    assert await stage.cursors.acquire("h", holder="two", begin="now") is None


async def test_place_and_parked_rows_are_one_transaction(stage: Stage) -> None:
    """Where a parked row cannot be written the cursor stays, and no other row is there either."""
    cursor = await taken(stage)

    with pytest.raises(DataRefused):
        await cursor.advance(3, [parked(1), parked(2**70)])

    assert await rows(stage) == []
    assert (cursor.position, (await cursor.lag()).position) == (0, 0)


async def test_delivered_rows_are_struck_off_and_failed_ones_replaced(stage: Stage) -> None:
    """One advance takes away what was delivered and overwrites what failed again; other handlers' rows stay."""
    cursor, other = await taken(stage), await taken(stage, handler="other")
    await other.advance(6, [parked(1), parked(4)])
    await cursor.advance(6, [parked(1), parked(2, "d2"), parked(4)])

    await cursor.advance(6, [parked(4, attempts=2, error="again")], [1, 2])

    assert sorted(await rows(stage)) == [("h", 4, 2), ("other", 1, 1), ("other", 4, 1)]
    ((row, event),) = await cursor.due(LATER, 10, by_device=True)
    assert row == parked(4, attempts=2, error="again")
    assert (event.position, event.data) == (4, b"3")


async def test_due_gives_the_first_of_each_device(stage: Stage) -> None:
    """By device only the first waiting row comes, dead letters aside; without order, and without device, all do."""
    cursor = await taken(stage)
    both = [parked(3, None), parked(6, None)]
    await cursor.advance(6, [parked(1, due_at=None), parked(2, "d2"), parked(4), parked(5, "d2"), *both])

    async def due(*, by_device: bool, limit: int = 10) -> list[int]:
        return [row.position for row, _ in await cursor.due(LATER, limit, by_device=by_device)]

    assert await due(by_device=True) == [2, 3, 4, 6]
    assert await due(by_device=False) == [2, 3, 4, 5, 6]
    assert await due(by_device=True, limit=2) == [2, 3]


@pytest.mark.parametrize("by_device", [False, True])
async def test_what_is_due_longest_comes_first(stage: Stage, by_device: bool) -> None:
    """However low the positions of what became due later: what fails again and again goes behind the others."""
    cursor = await taken(stage)
    failing = [
        parked(position, f"d{position}", due_at=NOON + timedelta(seconds=9 - position)) for position in (1, 2, 3)
    ]
    await cursor.advance(6, [*failing, parked(5, "d5")])

    found = await cursor.due(LATER, 3, by_device=by_device)

    assert [row.position for row, _ in found] == [5, 3, 2]


async def test_a_first_row_that_is_not_due_holds_back_its_device(stage: Stage) -> None:
    """What waits behind a failure is not due before it, though its own time has come."""
    cursor = await taken(stage)
    await cursor.advance(6, [parked(1, due_at=NOON + timedelta(minutes=1)), parked(4)])

    early = await cursor.due(NOON + timedelta(seconds=59), 10, by_device=True)
    late = await cursor.due(NOON + timedelta(seconds=60), 10, by_device=True)

    assert [[row.position for row, _ in pairs] for pairs in (early, late)] == [[], [1]]


async def test_what_no_clock_of_today_can_have_made_due_is_due(stage: Stage) -> None:
    """A row that is due later than `beyond`, since the clock was put back, is not waited for."""
    cursor = await taken(stage)
    rows = [parked(position, f"d{position}", due_at=NOON + timedelta(minutes=30 * position)) for position in (1, 2, 3)]
    await cursor.advance(6, rows)

    found = await cursor.due(NOON, 10, by_device=True, beyond=NOON + timedelta(hours=1))

    assert [row.position for row, _ in found] == [3]


async def test_what_is_behind_comes_in_order(stage: Stage) -> None:
    """A device's waiting rows come in order of position, due or not, without its dead letters."""
    cursor = await taken(stage)
    await cursor.advance(6, [parked(1, due_at=None), parked(2, "d2"), parked(4, due_at=LATER), parked(5), parked(6)])

    found = await cursor.behind(["d1", "d2", "none"], 2)
    assert {device: [row.position for row, _ in rows] for device, rows in found.items()} == {
        "d1": [4, 5],
        "d2": [2],
        "none": [],
    }
    assert sorted(await cursor.waiting_devices()) == ["d1", "d2"]


async def test_redriven_dead_letters_are_due_at_once(stage: Stage) -> None:
    """A dead letter that was given back is due by the slowest clock, with all attempts before it."""
    cursor = await taken(stage)
    await cursor.advance(6, [parked(1, due_at=None, attempts=7), parked(2, "d2", due_at=None), parked(4, due_at=LATER)])

    assert await redrive(stage, Chosen(ids=[an_event(0).id, an_event(3).id, an_event(99).id])) == 1
    ((row, _),) = await cursor.due(NOON - timedelta(days=300), 10, by_device=True)
    assert (row.position, row.attempts, row.first_failed_at) == (1, 0, None)

    assert await redrive(stage) == 1
    assert await redrive(stage) == 0
    assert await redrive(stage, handler="unknown") == 0


async def test_standing_says_how_far_a_handler_is(stage: Stage) -> None:
    """Position, head, the age of what is next, and how many wait or are dead."""
    cursor = await taken(stage)
    await cursor.advance(4, [parked(1, due_at=None), parked(2, "d2"), parked(3, None)])

    behind = await cursor.lag()
    await cursor.advance(6)
    done = await cursor.lag()

    assert (behind.position, behind.head, behind.waiting, behind.dead) == (4, 6, 2, 1)
    assert behind.oldest == NOON + timedelta(seconds=4)
    assert (done.position, done.oldest) == (6, None)
