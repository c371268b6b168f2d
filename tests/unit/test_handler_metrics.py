"""What is counted and logged of a handler's deliveries."""

from __future__ import annotations

import msgspec
import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from app.dispatcher.handler_metrics import HandlerMetrics
from ingest.deliveries import Parked
from ingest.delivery import DeliveryFailed, FailureCause, Verdict
from ingest.metrics import Metrics
from tests.support.dispatching import NOON, an_event

EVENT = msgspec.structs.replace(an_event(7), position=7)
ROW = Parked(7, "d1", 3, NOON, NOON, "ValueError: boom")


def line_of(error: BaseException, cause: FailureCause, times: int = 1) -> dict[str, object]:
    """The line about so many failures by this error."""
    metrics = HandlerMetrics("h", Metrics(CollectorRegistry()))
    for _ in range(times):
        metrics.failed(cause, [ROW], EVENT, error)
    with capture_logs() as lines:
        metrics.count()
        metrics.count()
    (line,) = lines
    return dict(line)


def raised(depth: int = 0) -> ValueError:
    """An error of a handler's code, raised so deep in it."""
    try:
        raise ValueError("x" * 9) if not depth else raised(depth - 1)
    except ValueError as error:
        return error


def test_failed_deliveries_are_one_line_with_an_example() -> None:
    """The last event that failed, its device, the cause, and where the handler's code raised."""
    line = line_of(raised(), FailureCause.HANDLER_ERROR, 1000)

    assert (line["event"], line["handler"], line["retried"]) == ("deliveries_failed", "h", 1000)
    assert (line["id"], line["device"]) == (str(EVENT.id), "d1")
    assert (line["cause"], line["attempts"], line["last_error"]) == ("handler_error", 3, "ValueError: boom")
    assert "in raised" in str(line["traceback"])
    assert str(line["traceback"]).endswith("ValueError: xxxxxxxxx\n")


@pytest.mark.parametrize("depth", [200])
def test_a_traceback_is_bounded(depth: int) -> None:
    """Of a deep one the innermost calls are shown."""
    assert len(str(line_of(raised(depth), FailureCause.HANDLER_ERROR)["traceback"])) <= 4000


def test_a_receiver_s_failure_has_no_traceback() -> None:
    """It would show our own code."""
    failure = DeliveryFailed(FailureCause.SERVER_ERROR, Verdict.RETRY, "answered 500", status=500)

    assert "traceback" not in line_of(failure, FailureCause.SERVER_ERROR)


def test_a_handler_that_goes_on_failing_does_not_fill_the_log() -> None:
    """One line a minute of each cause, at once for a new one; what was not said is counted in the next line."""
    now = [1000.0]
    metrics = HandlerMetrics("h", Metrics(CollectorRegistry()), lambda: now[0])
    with capture_logs() as lines:
        for _ in range(100):
            metrics.failed(FailureCause.HANDLER_ERROR, [ROW], EVENT, raised())
            metrics.delivered += 2
            metrics.count()
            now[0] += 1
        metrics.failed(FailureCause.TIMEOUT, [ROW], EVENT, TimeoutError())
        metrics.count()
        metrics.count()
        now[0] += 60
        metrics.count()
    assert [(line["cause"], line["retried"], line["delivered"]) for line in lines] == [
        ("handler_error", 1, 2),
        ("handler_error", 60, 120),
        ("timeout", 40, 78),
    ]
