"""A device's counter tells what is missing, what is lost, what came after all, and what nobody can tell."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.event import Event
from ingest.formats.pointer import make_finder, resolve
from ingest.sequences import DeviceState, NumberReader
from tests.support.records import an_event
from tests.support.sequences.tracked import Tracked

GRACE = 300


def test_numbers_in_their_turn_are_nothing() -> None:
    """A healthy device has no rows and no counts, and a state of a few dozen bytes."""
    device = Tracked().see(*range(1000, 1500))

    assert device.table == {}
    assert not any(device.counts.values())
    assert len(device.state.encode()) < 100


def test_a_number_that_does_not_come_is_missing_and_then_lost() -> None:
    """It is missing until the grace is over, and lost from then on, once."""
    device = Tracked().see(1, 2, 5, at=0)
    assert device.numbers("missing") == [3, 4]

    assert device.expire(GRACE - 1).numbers("missing") == [3, 4]
    device.expire(GRACE).expire(GRACE + 1)

    assert device.numbers("lost") == [3, 4]
    assert device.counts == {"missing": 0, "lost": 2, "ambiguous": 0}


def test_a_number_that_comes_late_is_recovered() -> None:
    """From missing before the grace is over, from lost afterwards; what is left of the hole stays what it was."""
    device = Tracked().see(1, 6, at=0).see(3, at=GRACE - 1).see(5, at=GRACE)

    assert (device.numbers("lost"), device.numbers("recovered")) == ([2, 4], [3, 5])
    assert device.counts["recovered from missing"] == device.counts["recovered from lost"] == 1
    assert device.counts["lost"] == 3


def test_what_comes_late_in_its_order_is_one_range() -> None:
    """A queue that a device sends late is one row, where it is written at once."""
    device = Tracked().see(1, 10)
    device.see(*range(2, 6))

    assert device.numbers("recovered") == [2, 3, 4, 5]


@pytest.mark.parametrize("number", [497, 490, 1, 2])
def test_a_resend_is_nothing(number: int) -> None:
    """A number seen a short while ago, or among the first, with the same data is the same message again."""
    device = Tracked().see(*range(1, 498)).see(number, 498, 499)

    assert device.table == {}
    assert device.counts["ambiguous"] == 0


def test_a_resend_of_what_is_not_remembered_is_ambiguous() -> None:
    """Whether the device has restarted cannot be told from it: it is counted, and nothing is missing for it."""
    device = Tracked().see(*range(1, 500)).see(200).see(500, 501)

    assert device.table == {}
    assert device.counts["ambiguous"] == 1


@pytest.mark.parametrize("again", [1, 3, 495, 499])
def test_a_number_with_other_data_is_a_restart(again: int) -> None:
    """What follows belongs to a new run, whose holes are its own; what came before its first is unknown."""
    device = Tracked().see(*range(1, 500)).see(again, again + 1, again + 3, data="second")

    assert device.numbers("missing") == [again + 2]
    assert device.counts["ambiguous"] == 0


def test_a_jump_of_more_than_10_000_is_a_restart() -> None:
    """So far ahead it is another run; not so far, the numbers between are missing."""
    assert Tracked().see(1, 10_002).table == {}
    assert len(Tracked().see(1, 10_001).numbers("missing")) == 9_999


def test_a_young_run_grows_downwards() -> None:
    """A number less than 1,000 below the first belongs to the run as long as that began within the grace."""
    assert Tracked().see(1500, 502).see(501, at=GRACE - 1).numbers("missing") == list(range(503, 1500))
    assert Tracked().see(1500, 500).table == {}
    assert Tracked().see(1500, at=0).see(1490, at=GRACE + 1).table == {}


def test_a_runs_first_number_may_be_known() -> None:
    """With `sequence_first` a run's beginning is missing where it did not come; far from it nobody can tell."""
    assert Tracked(first=1).see(4).numbers("missing") == [1, 2, 3]
    assert Tracked(first=1).see(4, 3, 2, 1).numbers("missing") == []
    assert Tracked(first=1).see(1001).table == {}
    restarted = Tracked(first=1).see(*range(1, 500)).see(3, data="second")
    assert restarted.numbers("missing") == [1, 2]


def test_a_number_of_an_earlier_runs_hole_is_ambiguous() -> None:
    """After a restart it may be of either run: it is missing in neither, and never lost."""
    device = Tracked().see(*range(1, 50), *range(51, 100)).see(1, 2, data="second").see(50)
    assert device.counts["ambiguous"] == 1
    assert device.counts["missing"] == 0

    device.see(*range(3, 50), 51, data="second").expire(10 * GRACE)

    assert device.counts["lost"] == 0


def test_what_goes_on_where_a_run_ended_is_ambiguous_after_a_restart() -> None:
    """A queue that the device kept over its restart opens no hole in the new run."""
    device = Tracked().see(*range(1, 100)).see(1, 2, data="second").see(100, 101).see(3, 4, data="second")

    assert device.table == {}
    assert device.counts["ambiguous"] == 2


def test_a_resend_of_what_is_ambiguous_is_a_resend() -> None:
    """A queue's message that the device sends twice over its restart opens no hole in the new run either."""
    device = Tracked().see(*range(1, 100)).see(1, data="second").see(100, 100, 100).see(2, data="second")

    assert device.table == {}
    assert device.counts["ambiguous"] == 1


def test_other_data_than_an_ambiguous_numbers_is_no_restart() -> None:
    """Of an ambiguous number it is not known which run it was of, so the next one with other data proves nothing."""
    device = Tracked().see(*range(1, 500)).see(200, data="second").see(200).see(500, at=GRACE + 1)

    assert device.table == {}
    assert device.counts["ambiguous"] == 2


def test_an_epoch_alone_decides() -> None:
    """With epochs, numbers of any run and order fill their own run's holes."""
    device = Tracked(by_epoch=True).see(1, 2, 9, epoch=7).see(1, 4, epoch=8)
    assert device.numbers("missing") == [3, 4, 5, 6, 7, 8, 2, 3]

    device.see(*range(3, 9), epoch=7).see(20_000, epoch=7).see(2, 2, epoch=8)

    assert device.counts["ambiguous"] == 0
    assert len(device.numbers("missing")) == 20_000 - 9 - 1 + 1
    assert device.see(5).counts["ambiguous"] == 1


def test_a_counter_wraps() -> None:
    """What is missing over the wrap is shown as the device numbers it, also where it wraps several times."""
    device = Tracked(modulus=256).see(250, 251, 254, 2, 3, 1)
    assert device.numbers("missing") == [252, 253, 255, 0]

    device.see(*[number % 256 for number in range(4, 1200)])

    assert device.numbers("missing") == [252, 253, 255, 0]
    assert device.see(256).counts["ambiguous"] == 1


def test_two_sources_are_one_sequence() -> None:
    """A number that one source did not bring, and the other did, is not missing; the loss is of whom it showed at."""
    device = Tracked().see(1, 3, source="fleet").see(2, 4, source="other").see(6, source="other")

    (row,) = [row for row in device.table.values() if row.state == "missing"]
    assert (row.first, row.source) == (5, "other")


def test_what_a_device_can_cost_is_bounded() -> None:
    """Whatever numbers a device sends, its state stays small, and what is forgotten is ambiguous and not lost."""
    device = Tracked(through_bytes=False)
    for turn in range(3000):
        device.see(turn * 7919 % 100_003, turn * 2, data=str(turn))
        assert len(device.state.encode()) < 10000

    assert device.counts["ambiguous"] > 0
    assert len(device.numbers("missing")) == device.counts["missing"]
    by_epoch = Tracked(by_epoch=True, through_bytes=False)
    for turn in range(500):
        by_epoch.see(turn * 3, turn * 3 + 2, epoch=turn)
    assert len(by_epoch.state.encode()) < 8000
    assert by_epoch.see(1, epoch=495).counts["lost"] == 0


@pytest.mark.parametrize(
    ("data", "number"),
    [
        (b'{"n":{"seq":17}}', 17),
        (b'{ "n": { "seq": "17" } }', 17),
        (b'{"t":NaN,"n":{"seq":17}}', 17),
        (b'{"n":{"seq":0}}', 0),
        (b'{"n":{"seq":-1}}', None),
        (b'{"n":{"seq":1.5}}', None),
        (b'{"n":{"seq":1e3}}', None),
        (b'{"n":{"seq":true}}', None),
        (b'{"n":{"seq":1234567890123456789}}', None),
        (b'{"n":17}', None),
        (b"{", None),
        (b"21.5", None),
        (None, None),
    ],
)
def test_the_number_of_an_event(data: bytes | None, number: int | None) -> None:
    """It is where the pointer leads in the data: a whole number of at most 18 digits, or a text of digits."""
    found = NumberReader(("n", "seq")).read(an_event(data=data))

    assert (found and found.number) == number


@given(st.dictionaries(st.sampled_from(["seq", "s", "t~a"]), st.sampled_from(['"1"', "1", "NaN", "[1]", '{"seq":2}'])))
def test_one_member_is_found_as_any_pointer_finds_it(members: dict[str, str]) -> None:
    """The short way to a member of an object leads to what the long one leads to."""
    text = ("{" + ",".join(f'"{name}": {value}' for name, value in members.items()) + "}").encode()

    for name in ("seq", "t~a"):
        assert make_finder((name,))(text) == resolve((name,), text)


def test_data_compares_however_it_is_written() -> None:
    """The digest of a resend is the same in any formatting, and another where the data is another."""
    reader = NumberReader(("seq",), epoch=("boot",))

    def read(data: bytes) -> object:
        return reader.read(an_event(data=data))

    assert read(b'{"seq":1,"boot":2}') == read(b'{ "boot": 2, "seq": 1 }')
    assert read(b'{"seq":1,"boot":2}') != read(b'{"seq":1,"boot":3}')


def test_only_some_names_carry_the_counter() -> None:
    """With `sequence_names` the events of other names have no number."""
    reader = NumberReader(("seq",), names=("loc",))

    def event(name: str) -> Event:
        return an_event(name, data=b'{"seq":1}')

    assert reader.read(event("loc/a")) is not None
    assert reader.read(event("temperature")) is None


def test_a_state_is_read_as_it_was_written() -> None:
    """The bytes of a state with everything in it are read back."""
    device = Tracked(first=1).see(4, 9).see(200, 1, data="second").see(7).see(300).expire(1000)

    assert DeviceState.decode(device.state.encode()) == device.state
