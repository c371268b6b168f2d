"""Waits before something is tried again."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from ingest.retrying import Backoff, Pauses, is_cancelled, wait_at_most
from tests.support.virtual_time import in_virtual_time, virtual_loop


@pytest.mark.parametrize(("jitter", "shortest"), [(0.0, 1.0), (0.5, 0.5), (1.0, 0.0)])
def test_waits_double_up_to_the_longest(jitter: float, shortest: float) -> None:
    """The nth wait is at most first × 2ⁿ⁻¹ and the longest, and at least the share of it that is not left to chance."""
    backoff, draw = Backoff(first=1.0, longest=10.0, jitter=jitter), Random(1).uniform

    for failures, bound in ((1, 1), (2, 2), (3, 4), (4, 8), (5, 10), (5000, 10)):
        waits = [backoff.seconds(failures, draw) for _ in range(300)]
        assert max(waits) == pytest.approx(bound, rel=0.05)
        assert max(waits) <= bound
        assert min(waits) == pytest.approx(bound * shortest, abs=0.05 * bound)


def test_no_wait_is_shorter_than_the_least() -> None:
    """Full jitter begins at `least`, not at nothing."""
    backoff, draw = Backoff(first=2.0, longest=60.0, jitter=1.0, least=1.0), Random(1).uniform

    assert min(backoff.seconds(9, draw) for _ in range(3000)) == pytest.approx(1.0, abs=0.1)


def test_waits_begin_anew_after_a_success() -> None:
    """Pauses grow with each failure in a row, and the first after a success is short again."""
    pauses = Pauses(Backoff(first=0.2, longest=5.0), Random(1).uniform)
    waits = [pauses.next_seconds() for _ in range(2000)]
    pauses.reset()

    assert 0.1 <= waits[0] <= 0.2
    assert all(2.5 <= wait <= 5 for wait in waits[6:])
    assert pauses.next_seconds() <= 0.2


@in_virtual_time
async def test_a_wait_ends_with_its_event_or_its_time() -> None:
    """It says whether the event is set, and takes no longer than it may."""
    loop, event = virtual_loop(), asyncio.Event()
    began = loop.time()
    assert not await wait_at_most(event, 5)
    assert loop.time() - began == pytest.approx(5)

    loop.call_later(2, event.set)
    assert await wait_at_most(event, 5)
    assert loop.time() - began == pytest.approx(7)


async def test_a_cancellation_that_comes_with_the_event_is_not_lost() -> None:
    """Both in one round of the loop: the task is cancelled, and knows it."""
    event, known = asyncio.Event(), list[bool]()

    async def wait() -> None:
        try:
            await wait_at_most(event, 60)
        finally:
            known.append(is_cancelled())

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    event.set()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert known == [True]
