"""What the states of its streams make of a source."""

from __future__ import annotations

from datetime import datetime, timedelta

from prometheus_client import CollectorRegistry

from ingest.event import Cause, Origin
from ingest.metrics import Metrics
from ingest.source_health import SourceHealth, StreamState
from tests.support.records import NOW


class Streams:
    """They change when the test says so, each time a second later than before, and a SourceHealth is told."""

    def __init__(self) -> None:
        self.now = NOW
        self.states: list[StreamState] = []
        self.metrics = Metrics(CollectorRegistry())
        origin = Origin("tracker", "fleet", "sse")
        self.health = SourceHealth(origin, lambda: self.states, self.metrics, lambda: self.now)

    def become(self, *states: str, reason: str | None = None) -> None:
        """From the first stream to the last; `reason` is why they were lost."""
        self.now += timedelta(seconds=1)
        self.states = [StreamState(number, state, self.now, reason=reason) for number, state in enumerate(states, 1)]
        self.health.changed()

    @property
    def up(self) -> tuple[bool, datetime | None]:
        """Whether the source is, and since when that is so."""
        condition = self.health.condition()
        return condition.up, condition.since


def test_a_source_is_up_while_one_of_its_streams_listens() -> None:
    """Since the first of them did, until the last of them does not; whatever the others do meanwhile."""
    streams = Streams()
    second = [NOW + timedelta(seconds=number) for number in range(6)]
    assert streams.up == (False, second[0])
    streams.become("connecting", "connecting")
    assert streams.up == (False, second[0])
    streams.become("connecting", "listening")
    assert streams.up == (True, second[2])
    streams.become("listening", "listening")
    streams.become("listening", "waiting")
    assert streams.up == (True, second[2])
    streams.become("stopped", "waiting")
    assert streams.up == (False, second[5])


def test_a_source_says_why_it_is_not_up() -> None:
    """In the words of its first stream, or by that one's state; while it is up there is nothing to say."""
    streams = Streams()
    assert streams.health.condition().reason == "not started"
    streams.become("connecting", "waiting")
    assert streams.health.condition().reason == "connecting"
    streams.become("waiting", "connecting", reason="upstream answered 500")
    assert streams.health.condition().reason == "upstream answered 500"
    streams.become("waiting", "listening", reason="upstream answered 500")
    assert streams.health.condition().reason is None
    assert [state.state for state in streams.health.condition().streams] == ["waiting", "listening"]


def test_reconnects_are_counted_by_their_cause() -> None:
    """From 0, so that the first one shows as an increase."""
    streams = Streams()
    streams.health.reconnecting(Cause.IDLE)
    labels = {"source": "fleet", "mode": "sse"}
    counted = {
        cause: streams.metrics.registry.get_sample_value(
            "headrace_source_reconnects_total", labels | {"cause": cause.value}
        )
        for cause in (Cause.IDLE, Cause.ERROR)
    }
    assert counted == {Cause.IDLE: 1, Cause.ERROR: 0}
