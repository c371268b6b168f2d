"""How long a lost stream waits, and how often a host is asked at all."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice

import pytest

from ingest.event import Cause
from ingest.reconnect import FULL_SECONDS, MOST_OPEN, MOST_OPENS, OPENS_SECONDS, Loss, OpenBudget, Patience

IDLE = Loss(Cause.IDLE, "silent")


def waits(loss: Loss, *, seed: int, retry: float | None = None) -> Iterator[tuple[float, float]]:
    """How long the stream has been away, and its next wait, for ever: each attempt fails at once."""
    draw = random.Random(seed).uniform
    now, patience = 1000.0, Patience()
    while True:
        wait, patience = patience.after(loss, now, retry, draw)
        yield now - 1000.0, wait
        now += wait


@pytest.mark.parametrize("seed", range(5))
def test_the_first_minute_is_quick(seed: int) -> None:
    """One to five seconds: upstream that is back within a minute has us back within six seconds."""
    for away, wait in waits(IDLE, seed=seed):
        if away >= 60:
            break
        assert 1 <= wait <= 5


def test_after_a_minute_the_waits_grow_to_a_minute() -> None:
    """With full jitter, so that a fleet does not come back at once, and more than three seconds on average."""
    grown = [
        [wait for away, wait in islice(waits(IDLE, seed=seed), 100) if away >= 60][
            :6
        ]  # at least 12 waits fill a minute
        for seed in range(300)
    ]
    by_turn = list(zip(*grown, strict=True))
    assert [round(max(turn), -1) for turn in by_turn] == [10, 20, 40, 60, 60, 60]
    assert all(min(turn) >= 1 and max(turn) <= 60 for turn in by_turn)
    assert all(sum(turn) / len(turn) > 3 for turn in by_turn)


@pytest.mark.parametrize("cause", [Cause.RATE_LIMITED, Cause.ERROR])
def test_upstreams_wish_takes_the_place_of_the_wait(cause: Cause) -> None:
    """Retry-After is kept to, and little more; 0 is no invitation to hammer."""
    for wish, least in ((7.0, 7.0), (200.0, 200.0), (0.0, 1.0)):
        _, wait = next(waits(Loss(cause, "later", wish), seed=1))
        assert least <= wait <= least + 1


def test_too_many_requests_is_taken_seriously() -> None:
    """Without a wish of upstream's, half a minute at least."""
    _, wait = next(waits(Loss(Cause.RATE_LIMITED, "429"), seed=1))
    assert 30 <= wait <= 60


def test_a_refusal_is_tried_again_ever_more_rarely() -> None:
    """Soon at first, as it may have been a proxy's moment; later by the hour, and never less often than that."""
    refused = [wait for _, wait in islice(waits(Loss(Cause.UNAUTHORIZED, "404"), seed=1), 30)]
    assert refused[0] <= 5
    assert all(later > earlier for earlier, later in zip(refused, refused[2:9], strict=False))
    assert all(1800 <= wait <= 3600 for wait in refused[10:])
    assert next(waits(Loss(Cause.UNAUTHORIZED, "403", 700.0), seed=1))[1] == 700


@pytest.mark.parametrize(("retry", "least"), [(0.001, 1), (4.5, 4.5), (20, 20), (60, 60), (3600, 60)])
def test_the_streams_own_wait_is_where_waits_begin(retry: float, least: float) -> None:
    """Between one and sixty seconds, no wait is shorter than `retry:`, and the longest is a minute all the same."""
    for seed in range(20):
        found = list(islice(waits(IDLE, seed=seed, retry=retry), 40))
        assert all(least <= wait <= 60 for _, wait in found)
        assert all(wait <= max(5, 1.5 * least) for away, wait in found if away < 60)
        assert max(wait for _, wait in found) > max(30, least - 1)
    assert next(waits(Loss(Cause.ERROR, "503", 2.0), seed=1, retry=retry))[1] >= least


def test_a_host_is_not_asked_too_often() -> None:
    """Whoever asks however often: no window of five minutes holds more than ninety opens."""
    budget, draw = OpenBudget(), random.Random(1)
    now, opens = 0.0, []
    while now < 5000:
        delay = budget.claim("api.particle.io:443", now)
        if delay == 0:
            opens.append(now)
            budget.closed("api.particle.io:443")
            now += draw.choice([0.0, 0.25, 3.0])
        else:
            assert budget.claim("api.particle.io:443", now + delay - 0.01) > 0
            now += delay
    assert all(later - earlier >= OPENS_SECONDS for earlier, later in zip(opens, opens[MOST_OPENS:], strict=False))
    assert len(opens) > 5000 / OPENS_SECONDS * MOST_OPENS * 0.9


def test_no_more_streams_are_open_than_a_host_lets_in() -> None:
    """Where all that may be open are, one has to close first."""
    budget = OpenBudget(most=1000)
    assert not any(budget.claim("a:443", 0.0) for _ in range(MOST_OPEN))
    assert budget.claim("a:443", 0.0) == FULL_SECONDS
    budget.closed("a:443")
    assert budget.claim("a:443", 0.0) == 0


def test_hosts_have_budgets_of_their_own() -> None:
    """One that is worn out costs another nothing."""
    budget = OpenBudget(most=1)
    assert budget.claim("a:443", 5.0) == 0
    assert budget.claim("a:443", 6.0) == OPENS_SECONDS - 1
    assert budget.claim("b:443", 6.0) == 0
