"""When a handler's circuit opens, when it wants a probe, and when it closes."""

from __future__ import annotations

from app.dispatcher.circuit import CircuitBreaker
from app.dispatcher.rate_limit import RateLimit
from ingest.deliveries import CircuitState

CLOSED = CircuitBreaker(failures=3, probe_seconds=30.0)


def test_so_many_failures_in_a_row_open_it() -> None:
    """A success in between begins the count anew; a failure while it is open changes nothing."""
    twice = CLOSED.failed(0.0).failed(1.0)
    assert not twice.is_open
    assert not twice.succeeded().failed(2.0).failed(3.0).is_open

    opened = twice.failed(5.0)
    assert (opened.state, opened.probe_at) == (CircuitState.OPEN, 35.0)
    assert opened.failed(20.0) == opened


def test_some_failures_open_it_at_once() -> None:
    """The receiver says that it cannot take anything from us."""
    assert CLOSED.failed(0.0, at_once=True).is_open


def test_zero_is_never() -> None:
    """Whatever fails, and however often."""
    never = CircuitBreaker(failures=0, probe_seconds=30.0)
    for _ in range(1000):
        never = never.failed(0.0, at_once=True)
    assert not never.is_open


def test_probes_become_rarer_up_to_ten_minutes() -> None:
    """Each that fails doubles the time to the next one; a success ends that for good."""
    circuit, now, waits = CLOSED.failed(0.0, at_once=True), 0.0, []
    for _ in range(7):
        waits.append(circuit.probe_at - now)
        now = circuit.probe_at
        circuit = circuit.probing()
        assert circuit.state is CircuitState.HALF_OPEN
        assert circuit.is_open
        circuit = circuit.probe_failed(now)
    assert waits == [30, 60, 120, 240, 480, 600, 600]

    closed = circuit.probing().succeeded()
    assert not closed.is_open
    assert closed.failed(now, at_once=True).probe_at == now + 30


def test_a_probe_that_came_to_nothing_makes_none_rarer() -> None:
    """It is wanted again at once."""
    opened = CLOSED.failed(0.0, at_once=True)
    assert opened.probing().probe_withdrawn() == opened


def test_a_probe_of_an_hour_stays_one() -> None:
    """The bound of ten minutes is for the doubling."""
    opened = CircuitBreaker(1, 3600.0).failed(0.0)
    assert opened.probing().probe_failed(3600.0).probe_at == 7200.0


def test_a_rate_holds_whatever_was_missed_before() -> None:
    """After a quiet hour a second still has no more than its share and a few."""
    limit, now, begun = RateLimit(100.0), 3600.0, 0
    while now < 3601.0:
        opens_at = limit.opens_at(now)
        if opens_at <= now:
            limit.spend(1, now)
            begun += 1
        now = max(opens_at, now)
    assert 100 <= begun <= 106


def test_a_batch_larger_than_the_bucket_is_waited_for_afterwards() -> None:
    """Of a rate of ten a second fifty take five seconds."""
    limit = RateLimit(10.0)
    limit.spend(50, 100.0)
    assert 104.9 <= limit.opens_at(100.0) <= 105.0
