"""What a store owes of a fleet by ways: the events, the kinds of duplicates and the numbers that are lost.

Pure; imports nothing of the product.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from tests.support.sequences.fleet_by_ways import Fleet
from tests.support.sequences.reference import Account, Arrival, reckon

Span = tuple[int, int]  # at least and at most
Arrivals = Mapping[str, Mapping[int, Span]]  # how often each way brought a copy; not certain around a kill or a cut


class Stored(NamedTuple):
    """A stored event: the copy that it is, the way by which it came first, and when, in seconds."""

    copy: int
    mode: str
    at: float


def storage_faults(fleet: Fleet, stored: Sequence[Stored], arrivals: Arrivals) -> Iterator[str]:
    """Yield what is stored twice, or never came so, or came and is not stored.

    A message is stored once; without a `message_id` each copy is an event of its own.
    """
    kept = Counter(_key(fleet, event.copy) for event in stored)
    if twice := [key for key, count in kept.items() if count > 1]:
        yield f"stored more than once: {twice}"
    for event in stored:
        if not arrivals[event.mode].get(event.copy, (0, 0))[1]:
            yield f"stored, but never sent by {event.mode}: {fleet.copies[event.copy]}"
    came = {_key(fleet, copy) for of_way in arrivals.values() for copy, (least, _) in of_way.items() if least}
    if missing := came - kept.keys():
        yield f"sent, but not stored: {missing}"


def duplicates(fleet: Fleet, stored: Sequence[Stored], arrivals: Arrivals) -> dict[tuple[str, str], Span]:
    """Return how many duplicates of each kind came by each way."""
    first = {_key(fleet, event.copy): event for event in stored}
    least: Counter[tuple[str, str]] = Counter()
    most: Counter[tuple[str, str]] = Counter()
    for way, of_way in arrivals.items():
        for copy, (low, high) in of_way.items():
            event = first.get(_key(fleet, copy))
            if event is None:
                continue
            if event.copy != copy:
                kind, counted = "resend", 0
            elif event.mode != way:
                kind, counted = "overlap", 0
            else:
                kind, counted = "redelivery", 1
            least[way, kind] += max(low - counted, 0)
            most[way, kind] += high - counted
    return {key: (least[key], most[key]) for key in most}


def accounts(fleet: Fleet, stored: Sequence[Stored], grace: float) -> dict[str, Account]:
    """Return what became of each device's numbers in the end, by the order in which its events were stored."""
    arrivals: defaultdict[str, list[Arrival]] = defaultdict(list)
    for event in stored:
        copy = fleet.copies[event.copy]
        arrivals[copy.device].append(Arrival(copy.run, copy.number, event.at))
    first = fleet.counting.first
    return {device: reckon(came, first=first, grace=grace, end=math.inf) for device, came in arrivals.items()}


def raw(fleet: Fleet, numbers: set[tuple[int, int]]) -> list[int]:
    """Return numbers of runs as the device sends them."""
    return sorted(number % (fleet.counting.modulus or 2**62) for _, number in numbers)


def _key(fleet: Fleet, copy: int) -> object:
    """Return what is stored once: the message where its number is known, else the copy."""
    return fleet.copies[copy].message if fleet.counting.message_ids else copy
