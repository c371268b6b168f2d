"""The Pub/Sub source: a subscription that we pull, and whose messages are acknowledged when they are committed.

Google keeps what is not acknowledged, so a connection or a process that is gone leaves no gap. With the store away
messages are held and kept leased, and the pull stops by itself at `max_messages`; they are never given back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime

from ingest.event import Cause, Origin
from ingest.intake import SourceIntake
from ingest.metrics import Metrics
from ingest.ports import Condition, LastSeen, MessageFormat
from ingest.pull.pull import Pull, PullParts, PullRules
from ingest.times import elapsed


class PubsubSource:
    """ports.Source for one subscription, with one or several streams that share its messages."""

    def __init__(
        self,
        origin: Origin,
        rules: PullRules,
        streams: int,
        format_: MessageFormat,
        intake: SourceIntake,
        metrics: Metrics,
        now: Callable[[], datetime],
        clock: Callable[[], float] = elapsed,
    ) -> None:
        self._origin = origin
        self._rules = rules
        self._number_of_streams = streams
        self._intake = intake
        self._metrics = metrics
        self._now = now
        self._parts = PullParts(
            origin=origin,
            format=format_,
            intake=intake,
            clock=clock,
            now=now,
            heard=intake.heard,
            changed=self._changed,
            reconnecting=self._count_reconnect,
            not_acknowledged=metrics.ack_failures.labels(origin.source).inc,
        )
        self._pulls: list[Pull] = []
        self._paused = False
        self._up = False
        self._since = now()
        metrics.declare_stream(origin.source, origin.mode.value)
        metrics.oldest_unsettled.labels(origin.source).set_function(self._age)

    async def run(self) -> None:
        """Pull until paused, or cancelled; then acknowledge what was settled, in bounded time."""
        if self._paused:
            return
        self._pulls = [Pull(number + 1, self._rules, self._parts) for number in range(self._number_of_streams)]
        async with asyncio.TaskGroup() as tasks:
            for pull in self._pulls:
                tasks.create_task(pull.run())

    async def pause(self) -> None:
        """Take no new message: what was not taken goes back to Google; what was taken is acknowledged once settled."""
        self._paused = True
        for pull in self._pulls:
            pull.pause()
        self._changed()

    def last_seen(self) -> LastSeen:
        """See ports.Source."""
        return self._intake.last_seen()

    def condition(self) -> Condition:
        """Up while at least one stream is open; the reason is that of the first one that is not."""
        states = [pull.state for pull in self._pulls]
        reasons = (state.reason or state.state for state in states)
        return Condition(self._up, self._since, None if self._up else next(reasons, "not started"), states)

    def _changed(self) -> None:
        up = not self._paused and any(pull.state.state == "listening" for pull in self._pulls)
        if up is not self._up:
            self._up, self._since = up, self._now()

    def _age(self) -> float:
        return max((pull.age() for pull in self._pulls), default=0.0)

    def _count_reconnect(self, cause: Cause) -> None:
        self._metrics.reconnects.labels(self._origin.source, self._origin.mode.value, cause.value).inc()
