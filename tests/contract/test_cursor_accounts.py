"""What a handler's row in the store tells: what became of all it passed, what it had ahead, its pause and its marks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, update

from ingest.deliveries import Attempt, Circuit, CircuitState, HandlerLag, Parked
from ingest.errors import LeaseLost
from storage import dead_letters, pauses, skips
from storage.cursors import SqlCursor, SqlCursors
from storage.engine import open_database
from storage.retention import Retention
from storage.runs import positions_of, read_runs, runs_of, write_runs
from storage.tables import crash_marks, cursors, deliveries, skipped
from tests.support.dispatching import NOON, Clock, Stage, an_event, staged
from tests.support.fresh import ALL

STORES = ALL


@pytest.fixture
async def stage(url: str) -> AsyncIterator[Stage]:
    """A store with ten events."""
    async with staged(open_database(url), Clock()) as stage:
        await stage.commit([an_event(number) for number in range(10)])
        yield stage


def parked(position: int, **values: Any) -> Parked:
    """A row that failed once and is due."""
    row: dict[str, Any] = {"attempts": 1, "first_failed_at": NOON, "due_at": NOON, "error": "boom"} | values
    return Parked(position, "d1", **row)


async def acquired(stage: Stage, holder: str = "one", begin: Any = "beginning") -> SqlCursor:
    """The cursor of `h`, as a new process has it after the lease of the one before has run out."""
    run_out = update(cursors).where(cursors.c.holder.is_not(None)).values(expires_at=1)
    await stage.database.write(lambda connection: connection.execute(run_out) and None)
    cursor = await SqlCursors(stage.database).acquire("h", holder=holder, begin=begin)
    assert cursor is not None
    return cursor


async def balanced(cursor: SqlCursor, stage: Stage) -> HandlerLag:
    """How far the handler is. All that it passed has become something."""
    lag = await cursor.lag()
    count = select(func.count()).select_from(deliveries).where(deliveries.c.handler == "h")
    rows = await stage.database.read(lambda connection: connection.execute(count).scalar_one())
    passed = lag.passed
    assert lag.position - passed.first == passed.unmatched + passed.delivered + passed.deleted + passed.skipped + rows
    return lag


async def test_all_that_was_passed_has_become_something(stage: Stage) -> None:
    """Delivered, parked and delivered later, unmatched, dead and deleted: each position is counted once."""
    cursor = await acquired(stage)
    await cursor.advance(4, [parked(2), parked(3, due_at=None)], unmatched=1)
    await balanced(cursor, stage)
    await cursor.advance(8, [parked(8)], [2, 6], unmatched=2)
    lag = await balanced(cursor, stage)
    assert (lag.passed.unmatched, lag.passed.delivered) == (3, 3)
    await stage.database.write(dead_letters.remove, "h")
    lag = await balanced(cursor, stage)
    assert (lag.passed.deleted, lag.dead, lag.waiting) == (1, 0, 1)


async def test_a_handler_that_begins_now_has_passed_nothing(stage: Stage) -> None:
    """What was there before it is before its first position."""
    lag = await balanced(await acquired(stage, begin="now"), stage)
    assert lag.passed.first == lag.position == 10


async def test_what_was_delivered_ahead_is_known_to_the_next_holder(stage: Stage) -> None:
    """A process that died had delivered more than its position says; what was saved of that is not lost."""
    cursor = await acquired(stage)
    await cursor.advance(2, ahead=[(4, 6), (9, 9)])
    assert (await acquired(stage, "two")).ahead == {4, 5, 6, 9}


async def test_marks_count_deaths_and_blame_nobody_else(stage: Stage) -> None:
    """An event whose delivery had begun when its holder died has a death more; one that was over has none."""
    cursor = await acquired(stage)
    assert cursor.deaths is None
    await cursor.release()
    cursor = await acquired(stage)
    assert cursor.deaths is None, "it was released in good order"
    for deaths in (1, 2):
        await cursor.mark(3)
        await cursor.mark(4)
        cursor = await acquired(stage, f"after {deaths}")
        assert cursor.deaths == {4: deaths}
    await cursor.mark(4)
    await cursor.mark(None)
    assert (await acquired(stage, "last")).deaths == {}


async def test_a_dead_letter_that_crashed_begins_anew_when_it_is_redriven(stage: Stage) -> None:
    """Its deaths are forgotten with the save that makes it one."""
    cursor = await acquired(stage)
    await cursor.mark(4)
    cursor = await acquired(stage, "two")
    await cursor.advance(4, [parked(4, due_at=None, cause="crashed")])
    marks = select(func.count()).select_from(crash_marks)
    assert await stage.database.read(lambda connection: connection.execute(marks).scalar_one()) == 0


async def test_who_lost_the_cursor_marks_and_shows_nothing(stage: Stage) -> None:
    """Marks and circuit are fenced like everything else."""
    cursor = await acquired(stage)
    await acquired(stage, "two")
    with pytest.raises(LeaseLost):
        await cursor.mark(1)
    with pytest.raises(LeaseLost):
        await cursor.show_circuit(Circuit(CircuitState.OPEN, NOON, "away"))


async def test_a_pause_and_a_circuit_are_seen_by_all(stage: Stage) -> None:
    """They are in the store: the present holder, the next one and whoever reads see the same."""
    cursor = await acquired(stage)
    assert await stage.database.write(pauses.pause, "h", "by hand")
    assert not await stage.database.write(pauses.pause, "h", "again"), "it is paused already"
    await cursor.show_circuit(Circuit(CircuitState.OPEN, NOON, "connection refused"))
    lag = await cursor.lag()
    assert cursor.pause == lag.pause
    assert lag.pause is not None
    assert lag.pause.because == "by hand"
    assert lag.circuit == Circuit(CircuitState.OPEN, NOON, "connection refused")
    assert (await acquired(stage, "two")).pause == lag.pause
    assert await stage.database.write(pauses.resume, "h")
    assert not await stage.database.write(pauses.resume, "h")
    assert (await acquired(stage, "three")).pause is None


async def test_attempts_are_kept_with_what_failed(stage: Stage) -> None:
    """The first, and the last twenty."""
    row = parked(1)
    attempts = [Attempt(NOON + timedelta(seconds=number), 0.5, 500, "server_error", "no") for number in range(30)]
    for attempt in attempts:
        row = parked(1, cause="server_error", history=row.history_with(attempt))
    cursor = await acquired(stage)
    await cursor.advance(1, [row])
    ((found, _),) = await cursor.due(NOON, 10, by_device=True)
    assert found.history == (attempts[0], *attempts[-20:])
    assert found.cause == "server_error"


async def test_dead_letters_are_chosen_by_cause_and_time(stage: Stage) -> None:
    """Each condition narrows the choice; a step changes no more than it may, and those that die later are left."""
    cursor = await acquired(stage)
    later = NOON + timedelta(hours=1)
    dead = [parked(at, due_at=None, cause="timeout" if at % 2 else "gone") for at in range(1, 9)]
    await cursor.advance(9, [*dead, parked(9, due_at=None, cause="timeout", first_failed_at=later)])
    timeouts = dead_letters.Chosen(cause="timeout", until=later)
    assert await stage.database.read(dead_letters.count, "h", timeouts) == 4
    assert await stage.database.write(dead_letters.give_back, "h", timeouts, 3) == 3
    assert await stage.database.write(dead_letters.give_back, "h", timeouts, 3) == 1
    assert await stage.database.read(dead_letters.count, "h", dead_letters.Chosen(since=later)) == 1


async def test_what_retention_takes_from_a_paused_handler_has_a_row(stage: Stage) -> None:
    """Its parked events too. A handler that runs keeps everything; one that is paused for not so long, too."""
    cursor = await acquired(stage)
    await cursor.advance(3, [parked(2)])
    lost: list[tuple[str, int]] = []
    now = NOON + timedelta(days=1000)
    retention = Retention(
        stage.database, timedelta(days=1), ["h"], lambda: now, count_skipped=lambda *some: lost.append(some)
    )
    assert await retention.purge() == 1
    await stage.database.write(pauses.pause, "h", "by hand")
    assert await retention.purge() == 8 + 1
    assert lost == [("h", 8)]
    rows = await stage.database.read(lambda connection: connection.execute(select(skipped)).all())
    assert [(row.handler, row.first_position, row.last_position, row.events) for row in rows] == [("h", 2, 10, 8)]
    await cursor.advance(10, skipped=7)
    lag = await balanced(cursor, stage)
    assert (lag.passed.skipped, lag.passed.deleted) == (7, 1)


async def test_each_pause_has_a_row_of_its_own_for_what_it_cost(stage: Stage) -> None:
    """Steps of one pause are one row, and what was delivered between two pauses is in none."""
    cursor = await acquired(stage)

    async def take(first: int, last: int) -> None:
        gone = range(first, last + 1)
        await stage.database.write(lambda connection: skips.note(connection, ["h"], gone) and None)

    await stage.database.write(pauses.pause, "h", "by hand")
    await take(1, 2)
    await take(3, 4)
    await stage.database.write(pauses.resume, "h")
    await cursor.advance(6, skipped=4)
    await stage.database.write(pauses.pause, "h", "by hand")
    await take(7, 8)

    rows = await stage.database.read(lambda connection: connection.execute(select(skipped)).all())
    assert [(row.first_position, row.last_position, row.events) for row in rows] == [(1, 4, 4), (7, 8, 2)]


def test_runs_are_read_as_they_were_written() -> None:
    """Runs of positions survive being a text."""
    positions = [5, 6, 7, 100, 102, 103]
    assert runs_of(positions) == [(5, 7), (100, 100), (102, 103)]
    assert positions_of(read_runs(3, write_runs(3, runs_of(positions)))) == set(positions)
    assert write_runs(3, []) is None
    assert read_runs(3, None) == []
