"""Whatever a handler raised, as a failed delivery with a cause from the closed set."""

from __future__ import annotations

import asyncio

import pytest

from ingest.delivery import DeliveryFailed, FailureCause, Verdict, failure_of
from ingest.errors import DeadLetter


class Unspeakable(Exception):
    """Its text cannot be read."""

    def __str__(self) -> str:
        raise RuntimeError


class Ending(Exception):
    """Its text ends the interpreter."""

    def __str__(self) -> str:
        raise SystemExit


@pytest.mark.parametrize(
    ("error", "cause", "verdict", "text"),
    [
        (DeadLetter("no such tank"), FailureCause.DEAD_LETTER, Verdict.DEAD, "no such tank"),
        (DeadLetter(), FailureCause.DEAD_LETTER, Verdict.DEAD, "DeadLetter"),
        (
            TimeoutError("not done within 20 s"),
            FailureCause.TIMEOUT,
            Verdict.RETRY,
            "TimeoutError: not done within 20 s",
        ),
        (ValueError("x"), FailureCause.HANDLER_ERROR, Verdict.RETRY, "ValueError: x"),
        (ValueError("x\0\ud800" + "y" * 600), FailureCause.HANDLER_ERROR, Verdict.RETRY, None),
        (KeyboardInterrupt(), FailureCause.HANDLER_ERROR, Verdict.RETRY, "KeyboardInterrupt"),
        (asyncio.CancelledError(), FailureCause.HANDLER_ERROR, Verdict.RETRY, "CancelledError"),
        (
            Unspeakable(),
            FailureCause.HANDLER_ERROR,
            Verdict.RETRY,
            "Unspeakable: (its message cannot be read: RuntimeError)",
        ),
        (
            Ending(),
            FailureCause.HANDLER_ERROR,
            Verdict.RETRY,
            "Ending: (its message cannot be read: SystemExit)",
        ),
    ],
)
def test_whatever_is_raised_is_a_failure(
    error: BaseException, cause: FailureCause, verdict: Verdict, text: str | None
) -> None:
    """With a text that every database can keep, and nothing of a receiver where there was none."""
    failure = failure_of(error)
    assert (failure.cause, failure.verdict) == (cause, verdict)
    assert (failure.status, failure.retry_after, failure.answer) == (None, None, "")
    if text is None:
        assert str(failure) == "ValueError: x\ufffd?" + "y" * (500 - len("ValueError: x\ufffd?"))
    else:
        assert str(failure) == text


def test_a_failure_of_our_own_is_itself() -> None:
    """Its cause is known already; of the receiver's answer 500 characters are kept."""
    failed = DeliveryFailed(
        FailureCause.THROTTLED, Verdict.RETRY, "answered 429", status=429, retry_after=7.0, answer="x" * 501
    )
    assert failure_of(failed) is failed
    assert failed.answer == "x" * 500


@pytest.mark.parametrize(("verdict", "opens"), [(each, each is not Verdict.DEAD) for each in Verdict])
def test_an_event_at_fault_opens_no_circuit(verdict: Verdict, opens: bool) -> None:
    """All other failures in a row do."""
    assert DeliveryFailed(FailureCause.REFUSED, verdict, "").opens_circuit is opens


def test_the_causes_are_a_closed_set() -> None:
    """They label a metric, and the contract lists them."""
    listed = (
        "refused, unauthorized, not_found, gone, throttled, client_error, server_error, redirect, timeout, connection, "
        "tls, handler_error, dead_letter, crashed"
    )
    assert ", ".join(FailureCause) == listed
