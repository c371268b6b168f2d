"""The health of a source of one or several streams: up while at least one of them listens, and else why not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from ingest.event import Cause, Origin
from ingest.metrics import Metrics


@dataclass(frozen=True, slots=True)
class LastSeen:
    """The times at which the last event and the last byte arrived; None: not yet."""

    event_at: datetime | None
    byte_at: datetime | None


@dataclass(frozen=True, slots=True)
class Condition:
    """The answer to whether a source can receive now, and if not, why. `since`: None is as long as it runs.

    `standby`: another process receives for it, and this one would take over.
    """

    up: bool
    since: datetime | None = None
    reason: str | None = None
    streams: Sequence[StreamState] = ()
    standby: bool = False


@dataclass(frozen=True, slots=True)
class StreamState:
    """One of a source's connections. `lost` and `reason`: why it last ended; `next_attempt_at`: while it waits.

    `state`: connecting, listening, waiting, refused (trying again does not help by itself) or stopped.
    """

    stream: int
    state: str
    since: datetime
    last_byte_at: datetime | None = None
    lost: Cause | None = None
    reason: str | None = None
    next_attempt_at: datetime | None = None


class SourceHealth:
    """Is told what its streams do. `states` gives how they do, in their order; `now` is the time of day."""

    def __init__(
        self,
        origin: Origin,
        states: Callable[[], Sequence[StreamState]],
        metrics: Metrics,
        now: Callable[[], datetime],
    ) -> None:
        self._labels = (origin.source, origin.mode)
        self._states = states
        self._metrics = metrics
        self._now = now
        self._up = False
        self._since = now()
        metrics.declare_stream(*self._labels)

    def changed(self) -> None:
        """Note that a stream's state is another one now."""
        up = any(state.state == "listening" for state in self._states())
        if up is not self._up:
            self._up, self._since = up, self._now()

    def reconnecting(self, cause: Cause) -> None:
        """Count that a stream that was lost for this cause is being opened again."""
        self._metrics.reconnects.labels(*self._labels, cause.value).inc()

    def condition(self) -> Condition:
        """Return the condition; where the source is not up, the reason is that of its first stream."""
        states = self._states()
        reason = next((state.reason or state.state for state in states), "not started")
        return Condition(self._up, self._since, None if self._up else reason, states)
