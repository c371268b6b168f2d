"""The Auditor comes to the same, whatever crashes and whoever takes over; on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from random import Random
from typing import Any, ParamSpec, TypeVar

import pytest

from app.auditor.session import AuditLimits
from ingest.errors import LeaseLost, StoreUnavailable
from ingest.event import Event
from storage.database import Database, Work
from storage.queries.handlers import handler_exists, handler_names, handler_rows
from storage.retention import Retention
from storage.sequences import AUDITOR
from tests.support.auditing import GRACE, Audited, a_number, following
from tests.support.dispatching import NOON
from tests.support.stored import rows, run

P = ParamSpec("P")
T = TypeVar("T")


@pytest.fixture
def audited(database: Database) -> Audited:
    """A store whose devices have a counter."""
    return Audited(database)


class Failing:
    """A database whose `fails`th write fails, before it is done or with its answer lost."""

    def __init__(self, database: Database, fails: int, *, after: bool) -> None:
        self._database = database
        self.dialect = database.dialect
        self._left = fails
        self._after = after

    async def read(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Read."""
        return await self._database.read(work, *args, **kwargs)

    async def write(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Write, or fail."""
        self._left -= 1
        if self._left == 0 and not self._after:
            raise StoreUnavailable("it is away")
        result = await self._database.write(work, *args, **kwargs)
        if self._left == 0:
            raise StoreUnavailable("the answer was lost")
        return result

    async def close(self) -> None:
        """Do nothing: it is somebody else's."""


def some_events(seed: int) -> list[Event]:
    """Events of five devices, with holes, late ones, resends and restarts, over some minutes."""
    random, events, at = Random(seed), [], 0.0
    counters = {f"dev{number}": 1 for number in range(5)}
    late: list[tuple[str, int]] = []
    for turn in range(160):
        at += random.choice([1, 2, 40])
        device = random.choice(list(counters))
        fate = random.random()
        if fate < 0.1 and late:
            device, number = late.pop(random.randrange(len(late)))
        elif fate < 0.15:
            number = counters[device] = 1
        elif fate < 0.25:
            number = max(1, counters[device] - 2)
        else:
            number = counters[device] + (1 if fate < 0.8 else 4)
            late += [(device, missed) for missed in range(counters[device] + 1, number)]
            counters[device] = number
        events.append(a_number(turn, device, number, at=at, data=str(number) if fate < 0.25 else "x"))
    return events


async def test_missing_lost_and_recovered(audited: Audited) -> None:
    """A number is missing, lost when the grace is over, recovered when it comes after all; each is counted once."""
    await audited.commit(1, 3, 6)
    await audited.audit()
    assert await audited.losses() == [("dev1", 2, "missing"), ("dev1", 4, "missing"), ("dev1", 5, "missing")]
    assert audited.counted() == {"missing": 3}

    await audited.commit(5, at=10)
    await audited.audit(seconds=GRACE - 1)
    assert audited.counted() == {"missing": 2, "recovered missing": 1}
    await audited.audit(seconds=1)
    await audited.audit(seconds=1)
    assert audited.counted() == {"lost": 2, "recovered missing": 1}
    await audited.commit(2, at=GRACE + 10)
    await audited.audit()

    assert await audited.losses() == [("dev1", 2, "recovered"), ("dev1", 4, "lost"), ("dev1", 5, "recovered")]
    assert audited.counted() == {"lost": 2, "recovered missing": 1, "recovered lost": 1}
    assert await rows(audited.database, "SELECT number, at FROM sequences") == [
        (6, (int(NOON.timestamp()) + GRACE + 10) * 1_000_000)
    ]


async def test_events_without_number_or_device_are_passed(audited: Audited) -> None:
    """They are nobody's counter, and so are those of a product that has none."""
    await audited.commit(1, None, 2)
    await audited.commit(1, 5, device=None)
    await audited.commit(1, 5, product="other", source="elsewhere")
    await audited.audit()

    assert await audited.losses() == []
    assert [row[0] for row in await audited.states()] == ["dev1"]


async def test_two_sources_of_a_product_are_one_sequence(database: Database) -> None:
    """Devices are told apart by product and id; a source that is gone was of its product too."""
    audited = Audited(database, following("fleet", "second"))
    await audited.commit(1, 3, source="second")
    await audited.commit(2, 4, source="fleet")
    await audited.commit(5, source="gone")
    await audited.audit()
    assert audited.counted() == {"recovered missing": 1}

    await audited.commit(1, 4, product="other")
    await audited.commit(7, source="second")
    await audited.audit()

    assert await rows(database, "SELECT source, first FROM losses WHERE state = 'missing'") == [("second", 6)]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("after", [False, True], ids=["before", "answer lost"])
async def test_a_crash_between_any_two_steps_changes_nothing(audited: Audited, seed: int, after: bool) -> None:
    """Wherever an Auditor ends, in the midst of its events or at a write, the next one comes to the same."""
    await audited.store(some_events(seed))
    audited.clock.forward(20_000)
    await audited.audit()
    expected = (await audited.losses(), await audited.states())
    assert {state for _, _, state in expected[0]} == {"lost", "recovered"}

    random = Random(seed)
    for crash in range(1, 12, 2):
        for table in ("losses", "sequences", "cursors"):
            await run(audited.database, f"DELETE FROM {table}")  # noqa: S608 - a name
        limits = AuditLimits(
            read_events=random.randint(1, 40), save_devices=random.randint(1, 4), margin_seconds=0, again_seconds=0
        )
        failing: Any = Failing(audited.database, crash + 1, after=after)
        session = await audited.auditor(database=failing, limits=limits)
        for _ in range(random.randint(1, 30)):
            try:
                await session.step()
            except StoreUnavailable:
                break
        await audited.audit()

        assert (await audited.losses(), await audited.states()) == expected


async def test_a_suspended_auditor_writes_nothing(audited: Audited) -> None:
    """Another process has taken over: what the one that slept has in hand is neither written nor counted."""
    await audited.commit(1, 3, 7)
    suspended = await audited.auditor("suspended")
    await suspended.step()
    await audited.audit()
    found, states = await audited.losses(), await audited.states()
    await audited.commit(5)

    await suspended.step()
    with pytest.raises(LeaseLost):
        await suspended.step()

    assert (await audited.losses(), await audited.states()) == (found, states)
    assert audited.counted() == {"missing": 4}
    await audited.audit()
    assert ("dev1", 5, "recovered") in await audited.losses()


async def test_a_lost_answer_is_counted_once(audited: Audited) -> None:
    """Where a commit went through and only its answer was lost, what it wrote is counted all the same, and once."""
    await audited.commit(1, 3)
    failing: Any = Failing(audited.database, 2, after=True)
    session = await audited.auditor(database=failing)
    while not await session.step():
        pass

    assert audited.counted() == {"missing": 1}
    assert await audited.losses() == [("dev1", 2, "missing")]


async def test_gauges_begin_with_what_the_store_says(audited: Audited) -> None:
    """Another process that takes over shows what is missing already."""
    await audited.commit(1, 4)
    await audited.audit()
    taker = Audited(audited.database)

    await taker.auditor("another")

    assert taker.counted() == {"missing": 2}


async def test_events_that_went_unread_are_not_lost(audited: Audited) -> None:
    """Where retention took events before the Auditor read them, it begins anew: nothing of before is certain."""
    audited.sources = following(first=1)
    await audited.commit(*range(1, 6), 8)
    await audited.audit()
    assert audited.counted() == {"missing": 2}
    await audited.commit(*range(9, 20))
    await run(audited.database, "DELETE FROM events WHERE position BETWEEN 7 AND 14")

    await audited.audit()
    await audited.commit(21)
    await audited.commit(4, device="dev2")
    await audited.audit(seconds=GRACE)

    assert await audited.losses() == [("dev1", 20, "lost")]
    assert audited.counted() == {"lost": 1}


async def test_what_a_device_begins_with_is_known(audited: Audited) -> None:
    """With `sequence_first` and nothing gone unread, numbers before the first one that came are missing."""
    audited.sources = following(first=1)
    await audited.commit(3)
    await audited.audit()

    assert [number for _, number, _ in await audited.losses()] == [1, 2]


async def test_handlers_do_not_show_it(audited: Audited) -> None:
    """The Auditor's cursor is no handler's."""
    await audited.commit(1)
    await audited.audit()

    assert await audited.database.read(handler_names) == []
    assert await audited.database.read(handler_rows) == []
    assert not await audited.database.read(handler_exists, AUDITOR)


async def test_retention_waits_for_it_and_takes_old_losses(audited: Audited) -> None:
    """Events stay until the Auditor has read them; losses that are over go with their time, the newest stays."""
    await audited.commit(1, 3, 5, 7)
    await audited.audit(seconds=GRACE)
    await audited.commit(2, 9, at=GRACE)
    retention = _retention(audited, lambda: NOON + timedelta(days=31))
    await retention.purge()
    left = await rows(audited.database, "SELECT count(*) FROM events")
    assert left == [(2,)]
    assert await audited.losses() == [("dev1", 6, "lost")]

    await audited.audit()
    await retention.purge()

    assert await rows(audited.database, "SELECT count(*) FROM events") == [(0,)]


def _retention(audited: Audited, clock: Callable[[], Any]) -> Retention:
    return Retention(audited.database, timedelta(days=30), [AUDITOR], clock)
