"""What a handler has in hand keeps each device's order, whatever happens while its parked rows are being read."""

from __future__ import annotations

from datetime import UTC, datetime

from app.dispatcher.context import DispatchLimits
from app.dispatcher.lanes import Delivery, Lane
from app.dispatcher.window import Window
from ingest.deliveries import Parked
from ingest.event import Event
from tests.support.dispatching import an_event

NOW = datetime(2026, 7, 28, tzinfo=UTC)


def committed(position: int, device: str) -> Event:
    """An event at a position."""
    event = an_event(position, device)
    return Event(**{name: getattr(event, name) for name in event.__struct_fields__} | {"position": position})


def next_lane(window: Window) -> Lane:
    """The lane that a worker takes up."""
    lane = window.ready.get_nowait()
    assert lane is not None
    return lane


def taken(lane: Lane) -> Delivery:
    """What is delivered next in a lane."""
    delivery = lane.take()
    assert delivery is not None
    return delivery


async def test_what_is_parked_while_rows_are_read_is_not_overtaken() -> None:
    """The rows of a device are read and there are none left; by then the cursor has parked later events of it."""
    window = Window(0, (), DispatchLimits(), by_device=True, workers=2)
    first, other, parked, last = (committed(at, device) for at, device in enumerate("abaa", 1))
    window.admit([first, other, parked])
    lane, other_lane = next_lane(window), next_lane(window)
    being_delivered = taken(other_lane)
    failed = taken(lane)
    row = Parked(1, "a", 1, NOW, NOW, "boom")
    window.failed(failed, row)
    window.free(lane)
    saved_to = window.checkpoint().position
    window.retry([(row, first)])
    assert next_lane(window) is lane
    window.delivered(taken(lane))
    saved_to = window.checkpoint().position  # what a refill saves before it reads the rows: none are left

    window.delivered(being_delivered)  # the cursor passes, and parks event 3
    window.refill(lane, [], NOW, saved_to)
    window.admit([last])

    assert lane.take() is None, "event 4 would be delivered before event 3"
    rows = window.checkpoint().rows
    assert {at for at, kept in rows.items() if kept is not None} >= {3}


def test_what_was_left_out_is_told_with_the_save_that_passes_it() -> None:
    """Unmatched events and holes count when the cursor passes them, once, also where the first save fails."""
    window = Window(0, (), DispatchLimits(), by_device=True, workers=2)
    events = [committed(at, f"d{at}") for at in (1, 3, 4, 5, 8)]
    window.admit(events, lambda event: event.position in {3, 5})
    three, five = taken(next_lane(window)), taken(next_lane(window))

    first = window.checkpoint()
    assert (first.position, first.unmatched, first.skipped) == (2, 1, 1)
    window.delivered(three)
    window.give_back(first)
    second = window.checkpoint()
    assert (second.position, second.unmatched, second.skipped) == (4, 2, 1)
    window.delivered(five)
    window.admit([committed(at, "x") for at in (9, 12)], lambda _event: False)
    last = window.checkpoint()
    assert (last.position, last.unmatched, last.skipped) == (12, 3, 4)


def test_what_was_delivered_before_is_neither_delivered_nor_left_out() -> None:
    """It counts as delivered, also where its event is gone; until it is passed it is told with each save."""
    window = Window(0, (), DispatchLimits(), by_device=True, workers=2, had=[2, 3, 6])
    assert window.delivered_ahead() == [2, 3, 6]
    window.admit([committed(at, f"d{at}") for at in (1, 2, 4, 5, 6)])
    one, four = taken(next_lane(window)), taken(next_lane(window))
    assert (one.position, four.position) == (1, 4)

    window.delivered(four)
    assert window.delivered_ahead() == [2, 3, 4, 6]
    window.delivered(one)
    assert window.checkpoint() == (4, {}, 0, 0)
    assert window.delivered_ahead() == [6]


def test_a_slow_delivery_is_parked_only_where_it_holds_up_the_rest() -> None:
    """While other lanes wait for a worker nothing is lost by a full window, also where one lane was drained ahead."""
    window = Window(0, (), DispatchLimits(window_events=6, read_events=1), by_device=True, workers=2)
    window.admit([committed(at, device) for at, device in enumerate("saaaaaabcd", 1)])
    slow, drained = next_lane(window), next_lane(window)
    taken(slow)
    while (delivery := drained.take()) is not None:
        window.delivered(delivery)
    assert window.is_full()
    assert window.checkpoint().rows == {}

    for _ in "bcd":
        window.delivered(taken(next_lane(window)))
    saved = window.checkpoint()
    assert (saved.position, list(saved.rows)) == (10, [1])
