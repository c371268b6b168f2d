"""An event that failed: when it is tried again, when it is given up, and what is kept of its attempts."""

from __future__ import annotations

from datetime import datetime, timedelta
from random import Random

import msgspec
import pytest

from app.dispatcher.retry import Retry, attempt_of
from app.settings import RetrySettings
from ingest.deliveries import Attempt, Parked
from ingest.delivery import DeliveryFailed, FailureCause, Verdict, failure_of
from ingest.errors import DeadLetter
from tests.support.dispatching import NOON, an_event

EVENT = msgspec.structs.replace(an_event(1), position=1)


def retry(**settings: object) -> Retry:
    """A retry with seeded jitter."""
    return Retry(RetrySettings.model_validate({"base": "1s", "cap": "10s", "max_age": "1h"} | settings), Random(1))


def park(
    policy: Retry, before: Parked | None, error: BaseException, now: datetime = NOON, *, alone: bool = True
) -> Parked:
    """The row of an event that failed by this error, after half a second."""
    failure = failure_of(error)
    return policy.park(EVENT, before, failure, attempt_of(failure, now, 0.5), alone=alone)


def tried(attempts: int, first_failed_at: datetime | None = NOON) -> Parked:
    """The row of an event with so many attempts."""
    return Parked(1, "d1", attempts, first_failed_at, NOON, "")


def test_back_off_doubles_up_to_the_cap_and_jitter_only_adds() -> None:
    """The wait after the nth failure is base × 2ⁿ⁻¹ up to twice that, and never more than the cap."""
    policy = retry()
    for attempts, least, most in ((1, 1, 2), (2, 2, 4), (3, 4, 8), (4, 8, 10), (5, 10, 10), (2000, 10, 10)):
        rows = [park(policy, tried(attempts - 1), ValueError()) for _ in range(300)]
        waits = [(row.due_at - NOON).total_seconds() for row in rows if row.due_at]
        assert len(waits) == 300
        assert least <= min(waits) <= least + 0.1 * (most - least)
        assert most - 0.1 * (most - least) <= max(waits) <= most


def test_a_failing_event_is_tried_at_its_maximum_age_for_the_last_time() -> None:
    """No retry is planned beyond max_age; a failure then is the end."""
    end = NOON + timedelta(hours=1)

    late = [park(retry(cap="1h", base="1h"), tried(40), ValueError(), end - timedelta(seconds=1)) for _ in range(9)]
    final = park(retry(), tried(40), ValueError(), end)

    assert all(row.due_at is not None and row.due_at <= end for row in late)
    assert (final.due_at, final.attempts, final.first_failed_at) == (None, 41, NOON)


def test_attempts_include_the_first() -> None:
    """With attempts = 2 the second failure is the end; an event that only waited has all of them before it."""
    policy = retry(attempts=2)

    first = park(policy, tried(0, None), ValueError())
    second = park(policy, first, ValueError())

    assert first.due_at is not None
    assert second.due_at is None


def test_fewer_attempts_than_were_made_are_the_end() -> None:
    """Where `attempts` was lowered below what a row has, its next failure is the last."""
    row = park(retry(attempts=2), tried(7), ValueError())

    assert (row.due_at, row.attempts) == (None, 8)


def test_a_first_failure_in_the_future_is_as_old_as_now() -> None:
    """A clock that was put back makes no event live longer than max_age from then on."""
    assert park(retry(), tried(1, NOON + timedelta(hours=9)), ValueError()).first_failed_at == NOON


def test_a_dead_letter_is_given_up_at_once_with_its_own_reason() -> None:
    """DeadLetter ends it at the first attempt, and its message is the whole reason."""
    row = park(retry(), None, DeadLetter("no such device"))

    assert (row.due_at, row.attempts, row.error, row.cause) == (None, 1, "no such device", "dead_letter")


def test_a_batch_that_is_refused_kills_none_of_its_events() -> None:
    """Which of them is at fault is not known: each is tried once more."""
    assert park(retry(attempts=1), None, DeadLetter("one of them"), alone=False).due_at is not None


@pytest.mark.parametrize("failure", [DeadLetter("no such device"), ValueError()], ids=["refused", "last attempt"])
def test_nothing_dies_while_the_handler_stands_still(failure: Exception) -> None:
    """What was in flight when a circuit opened, or a pause began, is tried again, first in line."""
    attempt = attempt_of(failure_of(failure), NOON, 0.5)
    row = retry(attempts=1).park(EVENT, None, failure_of(failure), attempt, stands_still=True)
    assert row.due_at == NOON
    assert retry(attempts=1).park(EVENT, None, failure_of(failure), attempt).due_at is None


def test_what_was_answered_is_kept_with_each_attempt() -> None:
    """When, how long, the status, the cause, and how the answer begins; the row's own error is the short sentence."""
    refusal = DeliveryFailed(FailureCause.SERVER_ERROR, Verdict.RETRY, "answered 503", status=503, answer="away" * 200)

    row = park(retry(), park(retry(), tried(0, None), ValueError("x")), refusal)

    assert (row.cause, row.error) == ("server_error", "answered 503")
    assert row.history == (
        Attempt(NOON, 0.5, None, "handler_error", "ValueError: x"),
        Attempt(NOON, 0.5, 503, "server_error", ("away" * 200)[:500]),
    )
