"""A device that counts, and what becomes of its messages on their way. By a seed. Imports nothing of the product."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import NamedTuple

GRACE = 60.0


class Message(NamedTuple):
    """A message as it comes in, at `at` seconds; `run` is the device's, from 0, and `raw` its number as sent."""

    at: float
    run: int
    number: int
    raw: int


@dataclass(frozen=True, slots=True)
class Life:
    """What a device is like; `first` and `modulus` are those of its counter, a run has `lasts` (from, to) numbers."""

    by_epoch: bool
    first: int
    modulus: int | None
    drops: float
    resends: float
    restarts: int
    cuts: int
    queues: bool
    lasts: tuple[int, int] = (60, 400)
    late: float = 0.03


def a_life(random: Random, *, by_epoch: bool) -> Life:
    """Whatever a device may be like. Without epochs it does not restart and wrap, which nobody could tell apart."""
    modulus = random.choice([None, 1024, 65_536]) if by_epoch or random.random() < 0.3 else None
    return Life(
        by_epoch,
        first=random.choice([0, 1]),
        modulus=modulus,
        drops=random.choice([0, 0.01, 0.1]),
        resends=random.choice([0, 0.05, 0.2]),
        restarts=random.randint(0, 4) if by_epoch or modulus is None else 0,
        cuts=random.randint(0, 2),
        queues=random.random() < 0.5,
        lasts=(240, 1600) if modulus == 1024 else (60, 400),
    )


def live(life: Life, random: Random) -> list[Message]:
    """The messages of a device's life as they come in; runs follow one another."""
    come: list[Message] = []
    at = 0.0
    for run in range(life.restarts + 1):
        count = random.randint(*life.lasts)
        cut = [(start, start + random.randint(1, 40)) for start in random.sample(range(20, count), life.cuts)]
        backlog: list[int] = []
        for number in range(life.first, life.first + count):
            at += random.choice([0.5, 1, 2, 5])
            if any(begin <= number < end for begin, end in cut):
                backlog.append(number)  # drained while others flow, or lost with what kept it
                continue
            come += _on_the_way(life, random, run, number, at)
            if backlog and life.queues:
                come += _on_the_way(life, random, run, backlog.pop(0), at + 0.2)
        if life.by_epoch and life.queues:
            come += [Message(at + 30 + index, run, number, number) for index, number in enumerate(backlog)]
    ordered = sorted(come)
    wrap = life.modulus or 2**62
    return [message._replace(raw=message.number % wrap) for message in ordered]


def _on_the_way(life: Life, random: Random, run: int, number: int, at: float) -> list[Message]:
    """Drop a message, delay it, or let the device send it again, stamped anew; the first one always comes."""
    if number > life.first + 1 and random.random() < life.drops:
        return []
    late = 0.0
    if number > life.first + 1 and random.random() < life.late:
        late = random.choice([2.0, 7.0, GRACE * 1.5, GRACE * 3] if life.by_epoch else [0.7, 1.5])
    copies = [at + late]
    while random.random() < life.resends:
        copies.append(copies[-1] + random.choice([0.1, 0.3, 0.4]))
    return [Message(copy, run, number, number) for copy in copies]
