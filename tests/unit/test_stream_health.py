"""What a stream's state makes of what its clients tell, in whatever order their threads get to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from google.api_core.exceptions import Cancelled, NotFound
from grpc import StatusCode

from ingest.event import Cause
from ingest.reconnect import Loss
from ingest.source_health import StreamState
from ingest.sources.pubsub.stream_health import StreamHealth
from tests.support.virtual_time import in_virtual_time

NOW = datetime(2026, 7, 28, 16, 53, 5, tzinfo=UTC)


class Told:
    """A StreamHealth, and what it told others."""

    def __init__(self, accepted: float = 60.0) -> None:
        self.reconnects: list[Cause] = []
        self.changes = 0
        self.health = StreamHealth("fleet", 1, accepted, lambda: NOW, self._changed, self.reconnects.append)

    @property
    def state(self) -> StreamState:
        """The present state."""
        return self.health.state

    def _changed(self) -> None:
        self.changes += 1


async def turn() -> None:
    """Let the loop do what threads asked of it."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_a_call_listens_when_it_is_connected_and_brought_a_message() -> None:
    """Neither alone is enough: the server may still refuse."""
    told = Told()
    attempt = told.health.begin()
    attempt.tell_called()
    attempt.tell_connected(True)
    await turn()
    assert told.state.state == "connecting"

    told.health.heard(NOW)
    assert told.state.state == "listening"
    assert told.state.last_byte_at == NOW


@in_virtual_time
async def test_a_call_that_lasts_listens_without_a_message() -> None:
    """A quiet subscription is one that is up."""
    told = Told(accepted=60.0)
    attempt = told.health.begin()
    attempt.tell_called()
    attempt.tell_connected(True)
    await asyncio.sleep(59)
    assert told.state.state == "connecting"
    await asyncio.sleep(2)
    assert told.state.state == "listening"


@in_virtual_time
async def test_a_call_that_ended_is_not_accepted_by_the_time_of_an_earlier_one() -> None:
    """Each call has to last by itself."""
    told = Told(accepted=60.0)
    attempt = told.health.begin()
    attempt.tell_connected(True)
    for _ in range(20):
        attempt.tell_called()
        await asyncio.sleep(7)
        assert told.state.state == "connecting"
        attempt.tell_call_ended(StatusCode.UNAVAILABLE, "busy")
        await turn()
        assert told.state.state == "connecting"
    assert told.reconnects == [Cause.CLOSED] * 19


async def test_a_connection_that_is_lost_shows_before_the_call_ends() -> None:
    """And comes back by itself."""
    told = Told()
    attempt = told.health.begin()
    attempt.tell_called()
    attempt.tell_connected(True)
    await turn()
    told.health.heard(NOW)
    attempt.tell_connected(False)
    await turn()
    assert told.state.state == "connecting"
    attempt.tell_connected(True)
    await turn()
    assert told.state.state == "listening"


async def test_a_loss_is_counted_once_however_it_is_told() -> None:
    """The call's end and the client's giving up are one loss, counted at the next opening by its cause."""
    told = Told()
    told.health.begin().tell_called()
    await turn()
    assert told.reconnects == []
    told.health.give_up(Loss(Cause.ERROR, "internal"), 3.0)
    assert (told.state.state, told.state.lost, told.state.reason) == ("waiting", Cause.ERROR, "internal")
    told.health.begin().tell_called()
    await turn()
    assert told.reconnects == [Cause.ERROR]


@pytest.mark.parametrize("late", [lambda a: a.tell_called(), lambda a: a.tell_call_ended(StatusCode.OK, "")])
async def test_a_client_that_was_given_up_is_not_heard(late: Callable[..., None]) -> None:
    """What its threads still say changes nothing of what the next one does."""
    told = Told()
    old = told.health.begin()
    old.tell_called()
    await turn()
    told.health.leave(Loss(Cause.IDLE, "no message for 900 s"))
    new = told.health.begin()
    new.tell_called()
    new.tell_connected(True)
    await turn()
    told.health.heard(NOW)
    late(old)
    old.tell_connected(False)
    await turn()

    assert told.state.state == "listening"
    assert told.state.lost is Cause.IDLE
    assert told.reconnects == [Cause.IDLE]


async def test_a_refusal_stays_until_a_call_is_accepted() -> None:
    """Attempts in between do not look like progress."""
    told = Told()
    told.health.begin()
    told.health.give_up(Loss(Cause.UNAUTHORIZED, "the subscription does not exist"), 3.0)
    attempt = told.health.begin()
    attempt.tell_connected(True)
    attempt.tell_called()
    await turn()
    assert told.state.state == "refused"
    attempt.tell_call_ended(StatusCode.NOT_FOUND, "no")
    await turn()
    assert (told.state.state, told.state.reason) == ("refused", "the subscription does not exist")


async def test_a_stop_is_the_last_word() -> None:
    """Ended on purpose is not lost."""
    told = Told()
    attempt = told.health.begin()
    told.health.stop()
    attempt.tell_called()
    attempt.tell_call_ended(StatusCode.CANCELLED, "by us")
    await turn()
    assert (told.state.state, told.state.lost, told.changes) == ("stopped", None, 1)


async def test_why_a_client_gave_up_is_its_own_word_or_that_of_its_last_call() -> None:
    """Where we told it to, because no call succeeded, or it does not say, the calls know why."""
    told = Told()
    attempt = told.health.begin()
    attempt.tell_called()
    attempt.tell_call_ended(StatusCode.UNAVAILABLE, "no route")
    await turn()

    for untold in (Cancelled("told to"), Exception(None)):
        assert told.health.why(untold) == Loss(Cause.REFUSED, "the server cannot be reached: no route")
    assert told.health.why(NotFound("gone")).cause is Cause.UNAUTHORIZED
