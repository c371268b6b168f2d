"""What the tracker calls lost and recovered is what became of the messages, seed by seed.

HEADRACE_LOSSY_SEEDS says how many seeds; 1,000 in `make chaos`.
"""

from __future__ import annotations

import os
from random import Random

import pytest

from tests.support.sequences.lossy_fleet import GRACE, Message, a_life, live
from tests.support.sequences.reference import Account, Arrival, reckon
from tests.support.sequences.tracked import Tracked

FEW = 3
MANY = int(os.environ.get("HEADRACE_LOSSY_SEEDS", "1000"))
SEEDS = [pytest.param(range(FEW), id="few"), pytest.param(range(FEW, MANY), id="many", marks=pytest.mark.chaos)]


def account_of(messages: list[Message], first: int, end: float) -> Account:
    """The truth: what lies between two numbers of one run that came, or after `first`."""
    return reckon([Arrival(one.run, one.number, one.at) for one in messages], first=first, grace=GRACE, end=end)


def raw(numbers: set[tuple[int, int]], modulus: int | None) -> list[int]:
    """Numbers as the device sends them."""
    return sorted(number % (modulus or 2**62) for _, number in numbers)


@pytest.mark.parametrize("seeds", SEEDS)
def test_with_epochs_all_is_the_truth(seeds: range) -> None:
    """Lost, missing and recovered numbers are those of the truth, and nothing is ambiguous."""
    for seed in seeds:
        random = Random(seed)
        life = a_life(random, by_epoch=True)
        device = Tracked(first=life.first, modulus=life.modulus, by_epoch=True, grace=GRACE, through_bytes=seed < FEW)
        messages = live(life, random)
        for message in messages:
            device.see(message.raw, at=message.at, epoch=message.run, data=str(message.run))
        end = messages[-1].at + random.choice([0, 2 * GRACE])
        truth = account_of(messages, life.first, end)

        device.expire(end)

        assert sorted(device.numbers("lost")) == raw(truth.lost, life.modulus), (seed, life)
        assert sorted(device.numbers("missing")) == raw(truth.missing, life.modulus), (seed, life)
        for before in ("missing", "lost"):
            assert device.counts[f"recovered from {before}"] == len(truth.recovered[before]), (seed, life)
        assert device.counts["ambiguous"] == 0, (seed, life)


@pytest.mark.parametrize("seeds", SEEDS)
def test_without_epochs_nothing_is_called_lost_that_is_not(seeds: range) -> None:
    """What is lost is lost in truth; where nothing is ambiguous, all that is lost in truth is."""
    told = 0
    for seed in seeds:
        random = Random(seed)
        life = a_life(random, by_epoch=False)
        device = Tracked(first=life.first, modulus=life.modulus, grace=GRACE, through_bytes=seed < FEW)
        messages = live(life, random)
        for message in messages:
            device.see(message.raw, at=message.at, data=str(message.run))
        end = messages[-1].at + 2 * GRACE
        account = account_of(messages, life.first, end)
        truth = raw(account.lost, life.modulus)

        found = sorted(device.expire(end).numbers("lost"))

        if device.counts["ambiguous"]:  # a number that came after it was lost may be of another run
            ever = truth + raw(account.recovered["lost"], life.modulus)
            assert all(found.count(number) <= ever.count(number) for number in set(found)), (seed, life)
        else:
            assert found == truth, (seed, life)
            told += 1
    assert told > len(seeds) / 3
