"""What is told of one event's deliveries, from what handlers left in the store and what the configuration says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from sqlalchemy import insert

from ingest.deliveries import Attempt, Parked
from ingest.times import rfc3339
from storage.cursors import SqlCursors
from storage.engine import open_database
from storage.queries.event_deliveries import ConfiguredHandler, EventDelivery
from storage.queries.events import event_by_id
from storage.tables import skipped
from tests.support.dispatching import NOON, Clock, Stage, an_event, staged
from tests.support.fresh import ALL

STORES = ALL
ATTEMPTS = (
    Attempt(NOON, 0.5, 503, "server_error", "answered 503"),
    Attempt(NOON + timedelta(seconds=9), 20.0, None, "timeout", "not done within 20 s"),
)


@pytest.fixture
async def stage(url: str) -> AsyncIterator[Stage]:
    """A store with eight events."""
    async with staged(open_database(url), Clock()) as stage:
        await stage.commit([an_event(number) for number in range(8)])
        yield stage


async def deliveries_of(stage: Stage, position: int, *configured: ConfiguredHandler) -> list[EventDelivery]:
    """What is told of the event at a position."""
    (event,) = await stage.feed.read(position - 1, 1)
    found = await stage.database.read(event_by_id, event.id, configured)
    assert found is not None
    return found.deliveries


def configured(label: str, *, wants: bool = True, from_beginning: bool = True) -> ConfiguredHandler:
    """A handler that wants all events, or none."""
    return ConfiguredHandler(label, lambda _event: wants, from_beginning)


async def state_of(stage: Stage, position: int, *known: ConfiguredHandler) -> str:
    """What became of the event at a position at the only handler."""
    (delivery,) = await deliveries_of(stage, position, *known)
    return delivery.state


async def test_each_event_has_one_state(stage: Stage) -> None:
    """Delivered, delivered ahead of its turn, parked, waiting behind its device, dead, or not come to yet."""
    cursor = await SqlCursors(stage.database).acquire("h", holder="one", begin="beginning")
    assert cursor is not None
    behind = Parked(3, "d1", 0, None, NOON, "waits behind another")
    failed: dict[str, Any] = {"first_failed_at": NOON, "error": "no", "cause": "timeout", "history": ATTEMPTS}
    rows = [Parked(2, "d1", 2, due_at=NOON, **failed), behind, Parked(4, "d1", 2, due_at=None, **failed)]
    await cursor.advance(5, rows, ahead=[(7, 7)])
    states = [await state_of(stage, position, configured("h")) for position in range(1, 9)]
    assert states == ["delivered", "parked", "parked", "dead", "delivered", "waiting", "delivered", "waiting"]


async def test_what_failed_shows_its_attempts(stage: Stage) -> None:
    """Each with its time, its seconds, the receiver's status where there was one, cause and error; and their count."""
    cursor = await SqlCursors(stage.database).acquire("h", holder="one", begin="beginning")
    assert cursor is not None
    await cursor.advance(1, [Parked(1, "d1", 47, NOON, None, "no", "timeout", ATTEMPTS)])
    (delivery,) = await deliveries_of(stage, 1)
    assert (delivery.handler, delivery.state, delivery.attempt_count) == ("h", "dead", 47)
    first, last = (msgspec.to_builtins(attempt) for attempt in delivery.attempts)
    assert first == {
        "at": rfc3339(NOON),
        "seconds": 0.5,
        "status": 503,
        "cause": "server_error",
        "error": "answered 503",
    }
    assert (last["seconds"], last["status"], last["cause"]) == (20.0, None, "timeout")


async def test_what_a_handler_never_gets_is_unmatched(stage: Stage) -> None:
    """What came before it began, what its filter leaves out, also where it has not come to it yet or never ran."""
    cursor = await SqlCursors(stage.database).acquire("h", holder="one", begin="now")
    assert cursor is not None
    (later, _) = await stage.commit([an_event(8), an_event(9)])
    assert later.position == 9
    assert await state_of(stage, 8, configured("h")) == "unmatched"
    assert await state_of(stage, 9, configured("h")) == "waiting"
    assert await state_of(stage, 9, configured("h", wants=False)) == "unmatched"
    await cursor.advance(10)
    assert await state_of(stage, 9, configured("h")) == "delivered"
    assert await state_of(stage, 9, configured("h", wants=False)) == "unmatched"
    assert await state_of(stage, 9) == "delivered", "of a handler that is not configured any more no filter is known"


async def test_a_handler_that_never_ran_is_told_by_where_it_would_begin(stage: Stage) -> None:
    """Every handler that is configured or ever ran is there, by name."""
    await SqlCursors(stage.database).acquire("m", holder="one", begin="beginning")
    found = await deliveries_of(
        stage, 1, configured("z", from_beginning=False), configured("a"), configured("b", wants=False)
    )
    assert [(delivery.handler, delivery.state) for delivery in found] == [
        ("a", "waiting"),
        ("b", "unmatched"),
        ("m", "waiting"),
        ("z", "unmatched"),
    ]


async def test_what_retention_took_is_skipped(stage: Stage) -> None:
    """Only where all of a stretch was taken: in one with holes the event, which is there, may be what stayed."""
    await SqlCursors(stage.database).acquire("h", holder="one", begin="beginning")
    whole = {"handler": "h", "first_position": 2, "last_position": 3, "events": 2, "at": 1}
    holes = {"handler": "h", "first_position": 5, "last_position": 8, "events": 3, "at": 1}
    await stage.database.write(lambda connection: connection.execute(insert(skipped), [whole, holes]) and None)
    states = [await state_of(stage, position) for position in (1, 2, 3, 4, 5)]
    assert states == ["waiting", "skipped", "skipped", "waiting", "waiting"]
