"""The promises of ingest.protocols.Handler, for every type of handler, one of an installed package among them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ingest.protocols import Handler
from ingest.settings.handlers import BatchSettings
from tests.support.dispatching import an_event, until
from tests.support.handler_kinds import KINDS, Kind, Receiver


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Each type of handler in turn."""
    found: Kind = request.param
    return found


@pytest.fixture
async def receiver(kind: Kind, tmp_path: Path) -> AsyncIterator[Receiver]:
    """Where the handler delivers to."""
    async with kind.receive(tmp_path) as receiver:
        yield receiver


@pytest.fixture
async def handler(receiver: Receiver) -> AsyncIterator[Handler]:
    """The handler, built as the server and `headrace check` build it."""
    built = await asyncio.to_thread(receiver.settings.build, "h", receiver.folder)  # where no event loop runs
    yield built
    await built.close()


async def test_what_was_delivered_has_arrived(handler: Handler, receiver: Receiver) -> None:
    """When `deliver` returns the event is there, and events that are delivered in turn arrive in turn."""
    events = [an_event(number) for number in range(1, 4)]
    for event in events:
        await handler.deliver([event])
        assert receiver.arrived()[-1] == str(event.id)
    assert list(receiver.arrived()) == [str(event.id) for event in events]


async def test_a_batch_is_delivered_as_one(receiver: Receiver) -> None:
    """All of its events arrive, in their order, by a single call; so does one event where no more are there."""
    batches = receiver.settings.model_copy(update={"batch": BatchSettings(events=3)})
    handler = batches.build("h", receiver.folder)
    events = [an_event(number) for number in (3, 1, 2)]
    await handler.deliver(events)
    await handler.deliver([an_event(4)])
    await handler.close()
    assert list(receiver.arrived()) == [str(event.id) for event in [*events, an_event(4)]]


async def test_as_many_deliveries_run_as_are_begun(handler: Handler, receiver: Receiver) -> None:
    """A handler is called `concurrency` times at once, and each of the events arrives once."""
    events = [an_event(number) for number in range(1, receiver.settings.concurrency + 1)]
    await asyncio.gather(*[handler.deliver([event]) for event in events])
    assert sorted(receiver.arrived()) == sorted(str(event.id) for event in events)


async def test_a_failure_is_raised_and_is_over_when_its_cause_is(
    kind: Kind, handler: Handler, receiver: Receiver
) -> None:
    """What did not arrive is an Exception and no silence; the same event arrives by the same handler afterwards."""
    if not kind.fails:
        pytest.skip("nothing at its other end can fail")
    event = an_event(1)
    receiver.fail(True)
    with pytest.raises(Exception):  # noqa: B017, PT011 - the dispatcher tries again whatever it is
        await handler.deliver([event])
    assert not receiver.arrived()
    receiver.fail(False)
    await handler.deliver([event])
    assert list(receiver.arrived()) == [str(event.id)]


async def test_a_delivery_that_is_cancelled_harms_no_other(handler: Handler, receiver: Receiver) -> None:
    """It ends as cancelled or delivered, and what is delivered after it arrives."""
    cancelled = asyncio.create_task(handler.deliver([an_event(1)]))
    await asyncio.sleep(0)
    cancelled.cancel()
    await asyncio.wait([cancelled])
    await handler.deliver([an_event(2)])
    assert receiver.arrived()[-1] == str(an_event(2).id)


@pytest.mark.parametrize("deliveries", [0, 1])
async def test_closing_is_safe(handler: Handler, deliveries: int) -> None:
    """Before the first delivery as after it, and twice."""
    for number in range(deliveries):
        await handler.deliver([an_event(number + 1)])
    await handler.close()
    await handler.close()


async def test_closing_leaves_nothing_running(handler: Handler) -> None:
    """The threads and tasks that deliveries began are over."""
    threads, tasks = set(threading.enumerate()), asyncio.all_tasks()
    await asyncio.gather(*[handler.deliver([an_event(number)]) for number in range(1, 5)])
    await handler.close()
    await until(lambda: set(threading.enumerate()) <= threads and asyncio.all_tasks() <= tasks, "for the end")
