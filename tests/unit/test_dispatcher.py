"""The parts of the dispatcher that need no store: deadline, window, and what a turn of the loop may take."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence

import msgspec
import pytest

from app.dispatcher.context import DispatchLimits
from app.dispatcher.deadline import Deadline
from app.dispatcher.lanes import Lane, Ready
from app.dispatcher.time_slice import TimeSlice
from app.dispatcher.window import Window
from ingest.deliveries import Parked
from ingest.event import Event
from tests.support.dispatching import NOON, an_event
from tests.support.virtual_time import in_virtual_time, virtual_loop

SMALL = DispatchLimits(window_events=6, read_events=1, save_events=3)


def at(position: int, device: str | None = "d1") -> Event:
    """A committed event."""
    return msgspec.structs.replace(an_event(position, device), position=position)


def a_window(*events: Event, waiting: tuple[str, ...] = (), by_device: bool = True) -> Window:
    """A window that has read these events."""
    window = Window(0, waiting, SMALL, by_device=by_device, workers=4)
    if events:
        window.admit(events)
    return window


def next_lane(window: Window) -> Lane:
    """The lane a worker would take."""
    lane = window.ready.get_nowait()
    assert lane is not None
    return lane


def failing(position: int, device: str | None = "d1") -> Parked:
    """The row of an event that failed and is due at noon."""
    return Parked(position, device, 1, NOON, NOON, "boom")


# --- deadline


def never() -> bool:
    """Nobody ends the task."""
    return False


def nothing() -> None:
    """Do nothing."""


async def attempt(deadline: Deadline, deliver: Callable[[Sequence[Event]], Awaitable[None]]) -> BaseException | None:
    """One call under the deadline, from now on."""
    return await deadline.attempt(deliver, [at(1)], asyncio.get_running_loop().time())


async def hang(_events: Sequence[Event]) -> None:
    """A handler that never ends by itself."""
    await asyncio.Event().wait()


@in_virtual_time
async def test_a_call_that_takes_too_long_is_a_failure_and_nothing_more() -> None:
    """It is interrupted; the worker's task goes on as if nothing had happened, also for the next call."""

    async def short(_events: Sequence[Event]) -> None:
        await asyncio.sleep(0)

    deadline = Deadline(20, never, nothing)
    outcomes = [await attempt(deadline, each) for each in (hang, short, hang, short)]
    deadline.close()

    assert [type(outcome) for outcome in outcomes] == [TimeoutError, type(None), TimeoutError, type(None)]
    assert str(outcomes[0]) == "not done within 20 s"
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


@in_virtual_time
async def test_each_call_has_the_whole_time() -> None:
    """A timer set for one call does not cut the next one short."""
    loop = virtual_loop()
    deadline = Deadline(10, never, nothing)

    async def quick(_events: Sequence[Event]) -> None:
        await asyncio.sleep(1)

    for _ in range(8):
        assert await attempt(deadline, quick) is None
    began = loop.time()
    assert isinstance(await attempt(deadline, hang), TimeoutError)
    deadline.close()

    assert loop.time() - began == pytest.approx(10)


async def test_whoever_cancels_a_worker_cancels_it() -> None:
    """A cancellation from outside is no failed delivery: it goes through."""
    entered = asyncio.Event()

    async def enter(events: Sequence[Event]) -> None:
        entered.set()
        await hang(events)

    async def work() -> None:
        await attempt(Deadline(60, lambda: True, nothing), enter)

    task = asyncio.create_task(work())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@in_virtual_time
async def test_a_handler_cannot_end_its_worker() -> None:
    """Cancelling itself, sys.exit, or swallowing the interruption: the worker stays."""

    async def cancels_itself(_events: Sequence[Event]) -> None:
        raise asyncio.CancelledError

    async def exits(_events: Sequence[Event]) -> None:
        raise SystemExit(3)

    async def swallows(events: Sequence[Event]) -> None:
        try:
            await hang(events)
        except asyncio.CancelledError:
            return

    deadline = Deadline(20, never, nothing)
    assert str(await attempt(deadline, cancels_itself)) == "the handler cancelled itself"
    assert str(await attempt(deadline, exits)) == "the handler called sys.exit(3)"
    assert await attempt(deadline, swallows) is None
    assert isinstance(await attempt(deadline, hang), TimeoutError)
    deadline.close()


@in_virtual_time
async def test_a_call_that_does_not_let_itself_be_cancelled_is_given_up_once() -> None:
    """After ten times its time, whatever it does then; and the next call has its whole time again."""
    loop, given_up = virtual_loop(), list[float]()
    began = loop.time()

    async def clings(_events: Sequence[Event]) -> None:
        ends = asyncio.Event()
        loop.call_at(began + 250, ends.set)
        while not ends.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await ends.wait()

    deadline = Deadline(10, never, lambda: given_up.append(loop.time() - began))
    await attempt(deadline, clings)
    assert given_up == [pytest.approx(100)]

    began_again = loop.time()
    assert isinstance(await attempt(deadline, hang), TimeoutError)
    assert loop.time() - began_again == pytest.approx(10)
    deadline.close()


# --- window


def test_the_cursor_passes_only_what_is_settled_without_a_hole() -> None:
    """An event that is being delivered, or waits for a worker, holds the cursor; what is settled up to it is passed."""
    window = a_window(at(1, "d1"), at(2, "d2"), at(3, "d3"))
    one, two = next_lane(window).take(), next_lane(window).take()
    assert one is not None
    assert two is not None

    window.delivered(two)
    assert window.checkpoint() == (0, {}, 0, 0)
    window.delivered(one)
    assert window.checkpoint() == (2, {}, 0, 0)


def test_what_is_not_for_the_handler_is_passed() -> None:
    """Events that were filtered out move the cursor like delivered ones."""
    window = a_window()
    window.admit([at(position) for position in range(1, 41)], lambda _event: False)

    assert window.checkpoint() == (40, {}, 40, 0)


def test_behind_a_failure_a_device_is_parked_untried() -> None:
    """Later events of the device are passed as waiting rows; another device is not concerned."""
    window = a_window(at(1), at(2), at(3, "d2"), at(4))
    lane = next_lane(window)
    delivery = lane.take()
    assert delivery is not None

    window.failed(delivery, failing(1))

    assert lane.take() is None
    position, rows, *_ = window.checkpoint()
    assert position == 2
    assert [(row.position, row.attempts) for row in rows.values() if row] == [(1, 1), (2, 0)]


def test_a_dead_letter_holds_nothing_back() -> None:
    """What was given up is passed, and the device goes on."""
    window = a_window(at(1), at(2))
    lane = next_lane(window)
    delivery = lane.take()
    assert delivery is not None

    window.failed(delivery, Parked(1, "d1", 1, NOON, None, "no"))

    following = lane.take()
    assert following is not None
    assert following.position == 2


def test_a_lane_does_not_flow_before_its_failure_is_saved() -> None:
    """A failure the cursor could not pass yet is not in the store; finding nothing there must not free its device."""
    window = a_window(at(1, "slow"), at(2), at(3))
    next_lane(window).take()
    lane = next_lane(window)
    delivery = lane.take()
    assert delivery is not None
    window.failed(delivery, failing(2))
    window.free(lane)
    window.retry([(failing(0), at(0))])  # an old dead letter of the device that was given back
    lane = next_lane(window)
    redriven = lane.take()
    assert redriven is not None
    window.delivered(redriven)

    saved_to = window.checkpoint().position
    window.refill(lane, [], NOON, saved_to)

    assert lane.take() is None


def test_a_drained_device_flows_again() -> None:
    """When the store has no more parked rows of a device, its later events are delivered directly."""
    window = a_window(waiting=("d1",))
    window.retry([(failing(-1), at(-1))])
    lane = next_lane(window)
    delivery = lane.take()
    assert delivery is not None
    window.delivered(delivery)
    assert window.checkpoint() == (0, {-1: None}, 0, 0)

    window.refill(lane, [], NOON, 0)
    window.admit([at(1)])

    following = lane.take()
    assert following is not None
    assert (following.position, following.row) == (1, None)


def test_a_row_in_hand_is_not_taken_twice() -> None:
    """A row that is fetched as due again while it is being delivered, or before that was saved, stays alone."""
    window = a_window(by_device=False)
    window.retry([(failing(1), at(1))])
    lane = next_lane(window)
    delivery = lane.take()
    assert delivery is not None

    window.retry([(failing(1), at(1))])
    window.delivered(delivery)
    window.free(lane)
    window.retry([(failing(1), at(1))])

    assert window.ready.get_nowait() is None


def test_what_could_not_be_saved_is_saved_next_time() -> None:
    """Rows given back are there again, unless something newer became of them."""
    window = a_window(by_device=False)
    window.retry([(failing(1), at(1)), (failing(2), at(2))])
    one, two = next_lane(window).take(), next_lane(window).take()
    assert one is not None
    assert two is not None
    window.failed(one, failing(1))
    unsaved = window.checkpoint()
    window.delivered(two)
    window.give_back(unsaved._replace(rows=unsaved.rows | {2: failing(2)}))

    assert window.checkpoint().rows == {1: failing(1), 2: None}


def test_one_slow_delivery_does_not_stop_the_cursor_of_a_full_window() -> None:
    """Full of settled events, the window passes the slow one as parked; it is struck off when it arrives after all."""
    window = a_window(*[at(position, f"d{position}") for position in range(1, 7)])
    slow, *others = [next_lane(window).take() for _ in range(6)]
    assert slow is not None
    for other in others:
        assert other is not None
        window.delivered(other)

    position, rows, *_ = window.checkpoint()
    window.delivered(slow)

    assert position == 6
    assert list(rows) == [1]
    assert window.checkpoint() == (6, {1: None}, 0, 0)


def test_a_batch_is_settled_as_a_whole() -> None:
    """In a full window the cursor passes none of a batch as parked while others of it are being settled."""
    window = a_window(*[at(position, f"d{position}") for position in range(1, 7)])
    batch = [delivery for delivery in (next_lane(window).take() for _ in range(6)) if delivery is not None]

    window.delivered_together(batch[::-1])

    assert window.checkpoint() == (6, {}, 0, 0)


def test_a_window_full_of_slow_deliveries_waits() -> None:
    """A handler that is slow for every device is not read ahead for: nothing is parked that did not fail."""
    window = a_window(*[at(position, f"d{position}") for position in range(1, 7)])
    slow = [next_lane(window).take() for _ in range(6)]
    assert slow[5] is not None
    window.delivered(slow[5])

    assert window.checkpoint() == (0, {}, 0, 0)


# --- ready


def lanes(ready: Ready, *parked_to: int | None) -> list[Lane]:
    """Put a lane for each into the queue, held back or not."""
    put = [Lane(f"d{number}", each) for number, each in enumerate(parked_to)]
    for lane in put:
        ready.put(lane)
    return put


def test_half_of_the_workers_are_for_new_events() -> None:
    """Lanes that are held back get the other half, also where nothing new is there, and more when one is left."""
    ready = Ready(4)
    first, second, third = lanes(ready, 1, 1, 1)

    assert [ready.get_nowait() for _ in range(3)] == [first, second, None]
    ready.release(first)
    assert ready.get_nowait() is third


def test_a_single_worker_takes_new_and_parked_by_turns() -> None:
    """Neither waits for all of the other."""
    ready = Ready(1)
    lanes(ready, 1, 1, None, None)

    taken = []
    for _ in range(4):
        lane = ready.get_nowait()
        assert lane is not None
        taken.append(lane.parked_to)
        ready.release(lane)

    assert sorted(map(str, taken[:2])) == sorted(map(str, taken[2:])) == ["1", "None"]


async def test_a_worker_that_waits_is_woken() -> None:
    """By a new lane, by one that may be tried again now, and by the end; one that was cancelled passes it on."""
    ready = Ready(2)
    (running,) = lanes(ready, 1)
    assert ready.get_nowait() is running
    waiting, cancelled = asyncio.create_task(ready.get()), asyncio.create_task(ready.get())
    await asyncio.sleep(0)
    (parked,) = lanes(ready, 1)
    await asyncio.sleep(0)
    assert not waiting.done()

    ready.release(running)
    cancelled.cancel()
    assert await waiting is parked
    last = asyncio.create_task(ready.get())
    await asyncio.sleep(0)
    ready.close()
    assert await last is None


@in_virtual_time
async def test_a_turn_is_shared_by_all_workers() -> None:
    """However many workers have something to do, others on the loop run in between: every two milliseconds."""
    turn, loop, turns = TimeSlice(), virtual_loop(), 0
    until = loop.time() + 0.1

    async def work() -> None:
        while (now := loop.time()) < until:
            if turn.is_over(now):
                await turn.step_back()
            else:
                loop.forward(0.0001)

    async def count() -> None:
        nonlocal turns
        while loop.time() < until:
            turns += 1
            await asyncio.sleep(0)

    await asyncio.gather(count(), *(work() for _ in range(16)))

    assert 40 <= turns <= 60
