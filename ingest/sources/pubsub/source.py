"""The Pub/Sub source: a subscription that we pull, and whose messages are acknowledged when they are committed.

Google keeps what is not acknowledged, so a connection or a process that is gone leaves no gap. With the store away
messages are held and kept leased, and the pull stops by itself at `max_messages`; they are never given back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime

from ingest.event import Origin
from ingest.intake import SourceIntake
from ingest.metrics import Metrics
from ingest.protocols import MessageFormat
from ingest.source_health import Condition, LastSeen, SourceHealth
from ingest.sources.pubsub.pull import Pull, PullParts, PullRules
from ingest.times import elapsed


class PubsubSource:
    """protocols.Source for one subscription, with one or several streams that share its messages."""

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
        self._rules = rules
        self._number_of_streams = streams
        self._intake = intake
        self._pulls: list[Pull] = []
        self._health = SourceHealth(origin, lambda: [pull.state for pull in self._pulls], metrics, now)
        self._parts = PullParts(
            origin=origin,
            format=format_,
            intake=intake,
            clock=clock,
            now=now,
            heard=intake.heard,
            changed=self._health.changed,
            reconnecting=self._health.reconnecting,
            not_acknowledged=metrics.ack_failures.labels(origin.source).inc,
        )
        self._paused = False
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

    def last_seen(self) -> LastSeen:
        """See protocols.Source."""
        return self._intake.last_seen()

    def condition(self) -> Condition:
        """See protocols.Source."""
        return self._health.condition()

    def _age(self) -> float:
        return max((pull.age() for pull in self._pulls), default=0.0)
