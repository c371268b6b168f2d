"""A lossy fleet whose messages come several ways, each of which drops, repeats and delays its own share. By a seed.

Imports nothing of the product.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from random import Random
from typing import NamedTuple

from tests.support.sequences.lossy_fleet import Life, live

CHAPTERS = 3
DEVICES = 4
MARKER = "marker"
NAME = "temperature"
_LASTS = (30, 80)  # so few numbers that a device never misses more stretches of them at once than are followed


class Counting(NamedTuple):
    """How the devices count, as a source's settings say it. `begin` is what a run begins with."""

    begin: int
    first: int | None
    modulus: int | None
    by_epoch: bool
    message_ids: bool


class Copy(NamedTuple):
    """A message as the cloud stamped it, at `at` seconds: what a device sends again is another copy.

    `raw` is the number as it was sent, `number` as it would be if the counter did not wrap.
    """

    device: str
    run: int
    number: int
    raw: int
    at: float

    @property
    def message(self) -> tuple[str, int, int]:
        """What all copies of a message have in common."""
        return self.device, self.run, self.number


@dataclass(frozen=True)
class Fleet:
    """All copies, and for each chapter those that each way brings, in order, by their place in `copies`.

    No chapter begins before all of the one before has come in. A marker ends each: the next copy of one more device,
    the last CHAPTERS copies. `certain` are the devices of which it can be told of each number whether it is lost.
    """

    counting: Counting
    copies: Sequence[Copy]
    chapters: Sequence[Mapping[str, Sequence[int]]]
    certain: frozenset[str]
    began: datetime

    def marker(self, chapter: int) -> int:
        """Return the copy that ends a chapter."""
        return len(self.copies) - CHAPTERS + chapter

    def body(self, number: int, *, as_object: bool = False) -> bytes:
        """Return the webhook body of a copy."""
        return json.dumps({"event": NAME, **self._members(number, as_object)}).encode()

    def streamed(self, number: int, *, as_object: bool = False) -> bytes:
        """Return the JSON of a copy in the product's stream, where its name stands on the `event:` line."""
        return json.dumps(self._members(number, as_object)).encode()

    def message(self, number: int) -> tuple[bytes, dict[str, str]]:
        """Return the copy as it is in a Pub/Sub topic."""
        device, stamp, data = self._told(number)
        return data.encode(), {"event": NAME, "device_id": device, "published_at": stamp}

    def of_event(self, event: Mapping[str, str]) -> int:
        """Return the copy that an event is, as the API shows it. Raises KeyError where nobody sent it."""
        return self._numbers[event["device"], event["published_at"], event["data"]]

    def _members(self, number: int, as_object: bool) -> dict[str, object]:
        device, stamp, data = self._told(number)
        return {"coreid": device, "published_at": stamp, "data": json.loads(data) if as_object else data}

    def _told(self, number: int) -> tuple[str, str, str]:
        copy = self.copies[number]
        data = json.dumps({"seq": copy.raw, "run": copy.run, "msg": f"{copy.run}-{copy.number}"})
        stamp = (self.began + timedelta(seconds=copy.at)).isoformat(timespec="milliseconds")
        return copy.device, stamp.replace("+00:00", "Z"), data

    @cached_property
    def _numbers(self) -> dict[tuple[str, str, str], int]:
        return {self._told(number): number for number in range(len(self.copies))}


def a_fleet(random: Random, ways: Sequence[str], *, by_epoch: bool, healthy: bool = False) -> Fleet:
    """Devices of any kind, or such that send all again and of which nothing is lost or late."""
    counting = _counting(random, by_epoch=by_epoch, healthy=healthy)
    copies: list[Copy] = []
    chapter_of: list[int] = []
    certain = set()
    for number in range(DEVICES):
        device = f"e00fce68{number:016x}"
        life = _life(random, counting, healthy=healthy)
        messages = live(life, random)
        copies += [Copy(device, one.run, one.number, one.raw, one.at) for one in messages]
        is_certain = by_epoch or not life.restarts
        # Where nothing tells the runs apart, none begins while the one before is on its way.
        end = messages[-1].at + 1
        chapter_of += [int(CHAPTERS * one.at / end) if is_certain else one.run for one in messages]
        certain.update([device] if is_certain else [])
    brought = {way: list(_brought(random, copies, counting.begin, healthy=healthy)) for way in ways}
    chapters = [
        {way: [number for _, number in sorted(all_) if chapter_of[number] == chapter] for way, all_ in brought.items()}
        for chapter in range(CHAPTERS)
    ]
    end = max(copy.at for copy in copies)
    markers = [Copy(MARKER, 0, number, number, end) for number in range(counting.begin, counting.begin + CHAPTERS)]
    began = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=end)
    return Fleet(counting, [*copies, *markers], chapters, frozenset({*certain, MARKER}), began)


def _counting(random: Random, *, by_epoch: bool, healthy: bool) -> Counting:
    """A source's devices; where they wrap, each run does so soon."""
    modulus = random.choice([None, 1024])
    begin = random.randint(1000, 1020) if modulus else random.choice([0, 1])
    first = begin if modulus is None and (not by_epoch or random.random() < 0.5) else None
    return Counting(begin, first, modulus, by_epoch, message_ids=healthy or random.random() < 0.5)


def _life(random: Random, counting: Counting, *, healthy: bool) -> Life:
    """A device; without epochs it does not restart and wrap, which nobody could tell apart."""
    restarts = random.choice([0, CHAPTERS - 1]) if counting.by_epoch or counting.modulus is None else 0
    life = Life(counting.by_epoch, counting.begin, counting.modulus, 0.0, 0.2, restarts, 0, queues=False, lasts=_LASTS)
    if healthy:
        return replace(life, restarts=0, late=0.0)
    return replace(
        life,
        drops=random.choice([0, 0.02, 0.1]),
        resends=random.choice([0, 0.05, 0.2]),
        cuts=random.randint(0, 1),
        queues=random.random() < 0.5,
    )


def _brought(random: Random, copies: Sequence[Copy], begin: int, *, healthy: bool) -> Iterator[tuple[float, int]]:
    """Yield the copies that one way brings, and when; the first ones of a run always come, and in order."""
    drops = 0.0 if healthy else random.choice([0, 0.03, 0.1])
    repeats = random.choice([0.02, 0.1])
    for number, copy in enumerate(copies):
        is_first = copy.number <= begin + 1
        if not is_first and random.random() < drops:
            continue
        late = random.choice([0.3, 3.0]) if not (is_first or healthy) and random.random() < 0.02 else 0.0
        yield copy.at + late, number
        while random.random() < repeats:
            late += random.choice([0.2, 2.0])
            yield copy.at + late, number
