"""Which faults a stream meets, in which order: seeded, so that a run can be had again."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar, get_args

import msgspec

from tests.support.upstream.rules import Fault, Kind, Nonsense

BREAKS: Sequence[Kind] = ("stall", "finish", "half_close", "reset", "cut")
ANSWERS: Sequence[Kind] = ("500", "429", "529", "html")
REFUSALS: Sequence[Kind] = ("401", "403", "404")
KILL, AWAY, RESEND, NONSENSE = "kill", "away", "resend", "nonsense"
_ALWAYS: Sequence[str] = ("stall", "reset", "cut", "never_answer", RESEND, KILL, AWAY, NONSENSE)
_OTHERS: Sequence[str] = ("finish", "half_close", "refuse", *ANSWERS, *REFUSALS)
_Name = TypeVar("_Name", bound=str)
_RESENT = 10
_BURST = 3


class Step(msgspec.Struct, frozen=True):
    """A rest, then one fault: of the upstream, or of the process (`kill`) or its store (`away`, for `seconds`)."""

    kind: str
    fault: Fault | None
    rest_seconds: float
    seconds: float = 0.0


def schedule(seed: int, count: int, *, brief: bool = False) -> list[Step]:
    """So many faults, each kind as often as any other.

    `brief`: not every kind, but those that matter most; rests and outages are short, and all is over within the first
    minute, in which reconnecting is quick. Every third rest is long: longer than what a gap may be too long by, and,
    unless `brief`, than the ten seconds of life after which reconnecting begins anew, or waiting would be all there is.
    """
    chance = random.Random(seed)
    kinds = _brief_kinds(chance, count) if brief else _shuffled(chance, [*_ALWAYS, *_OTHERS], count)
    return [_step(kind, _rest(chance, turn, brief=brief), chance, brief=brief) for turn, kind in enumerate(kinds)]


def one_sided(seed: int, count: int) -> list[Step]:
    """Faults that hit one of two streams, with time in between for both to be open for longer than a second."""
    chance = random.Random(seed)
    kinds: list[Kind] = [*BREAKS, "500", "429", "404", "never_answer", "refuse", *get_args(Nonsense)]
    return [Step(kind, _on_one(kind, chance), chance.uniform(1.5, 2.5)) for kind in _shuffled(chance, kinds, count)]


def _brief_kinds(chance: random.Random, count: int) -> list[str]:
    kinds = [*_ALWAYS, *chance.sample(_OTHERS, count - len(_ALWAYS))]
    chance.shuffle(kinds)
    return kinds


def _on_one(kind: Kind, chance: random.Random) -> Fault:
    return Fault(
        kind=kind,
        streams=chance.choice(("oldest", "newest")),
        resend=chance.choice((0, _RESENT)),
        retry_after="1" if kind == "429" else None,
        seconds=0.5 if kind == "refuse" else 0.0,
    )


def _step(kind: str, rest: float, chance: random.Random, *, brief: bool) -> Step:
    if kind == KILL:
        return Step(kind, None, rest)
    if kind == AWAY:  # longer than SQLite's busy timeout of 5 s, so that commits fail
        return Step(kind, None, rest, 5.5 if brief else chance.uniform(5.5, 20))
    if kind == RESEND:
        return Step(kind, Fault(kind="reset", resend=_RESENT), rest)
    if kind == "refuse":
        return Step(kind, Fault(kind="refuse", seconds=0.5 if brief else chance.uniform(0.5, 8)), rest)
    if kind == NONSENSE:
        return Step(kind, Fault(kind=chance.choice(get_args(Nonsense)), times=1 if brief else 2), rest)
    if kind in ANSWERS:
        return _answered(kind, rest, chance, brief=brief)
    return Step(kind, Fault(kind=kind), rest)  # type: ignore[arg-type]


def _answered(kind: str, rest: float, chance: random.Random, *, brief: bool) -> Step:
    """Retry-After is short where it is given; where 429 and 529 come without, half a minute passes."""
    retry_after = "1" if brief or chance.random() < 0.8 else None
    return Step(kind, Fault(kind=kind, retry_after=retry_after), rest)  # type: ignore[arg-type]


def _rest(chance: random.Random, turn: int, *, brief: bool) -> float:
    if brief:
        return 3.5 if turn % _BURST == _BURST - 1 else chance.uniform(0.1, 0.5)
    return chance.uniform(10.5, 12) if turn % _BURST == _BURST - 1 else chance.uniform(0.1, 1.5)


def _shuffled(chance: random.Random, kinds: Sequence[_Name], count: int) -> list[_Name]:
    """Each kind as often as any other, give or take one."""
    order = chance.sample(kinds, len(kinds))
    found = [order[turn % len(order)] for turn in range(count)]
    chance.shuffle(found)
    return found
