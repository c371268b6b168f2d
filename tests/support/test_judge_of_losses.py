"""The judge of a fleet that comes several ways sees each kind of wrong."""

from __future__ import annotations

from datetime import UTC, datetime
from random import Random

import pytest

from tests.support.sequences.fleet_by_ways import CHAPTERS, Copy, Counting, Fleet, a_fleet
from tests.support.sequences.fleet_truth import Arrivals, Stored, accounts, duplicates, raw, storage_faults

COPIES = [Copy("a", 0, 7, 7, 1.0), Copy("a", 0, 7, 7, 2.0), Copy("a", 0, 17, 1, 3.0), Copy("a", 1, 7, 7, 4.0)]
SENT: Arrivals = {"webhook": {0: (1, 1), 1: (1, 2), 2: (1, 1)}, "sse": {0: (1, 1), 1: (2, 2), 3: (0, 1)}}
FIRST, SECOND, OTHER, UNSURE = (
    Stored(0, "sse", 1),
    Stored(1, "webhook", 2),
    Stored(2, "webhook", 3),
    Stored(3, "sse", 4),
)


def fleet(*, message_ids: bool) -> Fleet:
    """One device: the same message twice, ten numbers later another, and one of its next run."""
    counting = Counting(7, None, 16, by_epoch=True, message_ids=message_ids)
    return Fleet(counting, COPIES, [], frozenset("a"), datetime(2026, 7, 28, tzinfo=UTC))


@pytest.mark.parametrize("stored", [[FIRST, OTHER], [SECOND, OTHER, UNSURE]])
def test_a_message_that_is_known_is_stored_once(stored: list[Stored]) -> None:
    """Whichever copy came first; what may not have come may be there or not."""
    assert list(storage_faults(fleet(message_ids=True), stored, SENT)) == []


@pytest.mark.parametrize(
    ("fault", "stored"),
    [
        ("stored more than once", [FIRST, SECOND, OTHER]),
        ("sent, but not stored", [FIRST, UNSURE]),
        ("stored, but never sent", [FIRST, OTHER._replace(mode="sse")]),
    ],
)
def test_what_is_wrong_with_events(fault: str, stored: list[Stored]) -> None:
    """Each kind of wrong is found."""
    (found,) = storage_faults(fleet(message_ids=True), stored, SENT)
    assert found.startswith(fault)


def test_kinds_of_duplicates() -> None:
    """By the way of the first copy, and by whether it was that copy."""
    kinds = {key: span for key, span in duplicates(fleet(message_ids=True), [SECOND, OTHER], SENT).items() if span[1]}
    assert kinds == {
        ("webhook", "redelivery"): (0, 1),
        ("webhook", "resend"): (1, 1),
        ("sse", "overlap"): (2, 2),
        ("sse", "resend"): (1, 1),
    }
    each = duplicates(fleet(message_ids=False), [FIRST, SECOND, OTHER], SENT)
    assert {key: span for key, span in each.items() if span[1]} == {
        ("webhook", "overlap"): (1, 1),
        ("webhook", "redelivery"): (0, 1),
        ("sse", "overlap"): (2, 2),
    }


def test_what_lies_between_two_numbers_is_lost() -> None:
    """Of one run, as the device sends them."""
    one = fleet(message_ids=True)
    found = accounts(one, [FIRST, OTHER, UNSURE], grace=1)["a"]
    assert raw(one, found.lost) == [0, *range(8, 16)]


@pytest.mark.parametrize("by_epoch", [True, False])
def test_a_fleet_sends_each_message_by_some_way(by_epoch: bool) -> None:
    """Where all is healthy every way brings every copy, in one chapter each; else each way drops its own."""
    healthy = a_fleet(Random(1), ["webhook", "sse"], by_epoch=by_epoch, healthy=True)
    brought = [{way: set(copies) for way, copies in chapter.items()} for chapter in healthy.chapters]
    assert len(brought) == CHAPTERS
    assert all(chapter["webhook"] == chapter["sse"] != set() for chapter in brought)
    lossy = a_fleet(Random(3), ["webhook", "sse"], by_epoch=by_epoch)
    assert any(set(chapter["webhook"]) != set(chapter["sse"]) for chapter in lossy.chapters)
