"""Keeps every source running: one that fails is started again after a pause, and its state can be read."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import partial

import structlog

from ingest.event import Origin
from ingest.metrics import Metrics
from ingest.protocols import Source
from ingest.retrying import Backoff, Draw, Pauses
from ingest.source_health import StreamState

_BACKOFF = Backoff(first=2.0, longest=60.0, jitter=1.0, least=1.0)

log = structlog.get_logger(__name__)


class State(StrEnum):
    """The states of a source."""

    STARTING = "starting"
    RUNNING = "running"
    DOWN = "down"  # runs, and cannot receive now
    STANDBY = "standby"  # another process receives
    FAILED = "failed"  # will be started again
    DRAINING = "draining"


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """One source and mode as an operator sees it; counts are this process's."""

    source: str
    mode: str
    product: str
    state: State
    since: datetime
    reason: str | None
    last_event_at: datetime | None
    last_byte_at: datetime | None
    counts: Mapping[str, int]
    streams: Sequence[StreamState] = ()


@dataclass(slots=True)
class Supervised:
    """A source, its origin, and what is known of how it does."""

    origin: Origin
    source: Source
    state: State = State.STARTING
    since: datetime | None = None
    reason: str | None = None


class Supervisor:
    """Runs sources until cancelled. A source that raises is run again after 1 to 60 seconds, with jitter by `draw`."""

    def __init__(
        self,
        sources: Sequence[Supervised],
        metrics: Metrics,
        clock: Callable[[], datetime],
        draw: Draw = random.uniform,
    ) -> None:
        self._sources = sources
        self._metrics = metrics
        self._clock = clock
        self._draw = draw
        self._draining = False
        for supervised in sources:
            self._enter(supervised, State.STARTING)
            up = metrics.source_up.labels(supervised.origin.source, supervised.origin.mode)
            up.set_function(partial(_is_up, supervised))

    async def run(self) -> None:
        """Run every source until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for supervised in self._sources:
                tasks.create_task(self._keep_running(supervised))

    async def pause(self) -> None:
        """Tell every source to take nothing new. What any of them raises is raised when all have been told."""
        self._draining = True
        for supervised in self._sources:
            self._enter(supervised, State.DRAINING)
        pausing = (supervised.source.pause() for supervised in self._sources)
        for failed in await asyncio.gather(*pausing, return_exceptions=True):
            if isinstance(failed, BaseException):
                raise failed

    def statuses(self) -> list[SourceStatus]:
        """Return how each source does, in the order of the configuration."""
        return [self._status(supervised) for supervised in self._sources]

    async def _keep_running(self, supervised: Supervised) -> None:
        pauses = Pauses(_BACKOFF, self._draw)
        while not self._draining:
            self._enter(supervised, State.RUNNING)
            started = self._clock()
            try:
                await supervised.source.run()
                reason = "it ended by itself"
            except Exception as error:  # whatever a source meets, the others and the next try go on
                log.exception("source_failed", source=supervised.origin.source, mode=supervised.origin.mode)
                reason = f"{type(error).__name__}: {error}"[:200]
            if self._draining:
                return
            self._enter(supervised, State.FAILED, reason)
            if (self._clock() - started).total_seconds() > _BACKOFF.longest:
                pauses.reset()
            await asyncio.sleep(pauses.next_seconds())

    def _enter(self, supervised: Supervised, state: State, reason: str | None = None) -> None:
        supervised.state, supervised.since, supervised.reason = state, self._clock(), reason

    def _status(self, supervised: Supervised) -> SourceStatus:
        origin = supervised.origin
        last, condition = supervised.source.last_seen(), supervised.source.condition()
        state, since, reason = supervised.state, supervised.since or self._clock(), supervised.reason
        if state is State.RUNNING:  # then the source itself knows best
            state = State.RUNNING if condition.up else State.STANDBY if condition.standby else State.DOWN
            since, reason = condition.since or since, condition.reason
        return SourceStatus(
            source=origin.source,
            mode=origin.mode,
            product=origin.product,
            state=state,
            since=since,
            reason=reason,
            last_event_at=last.event_at,
            last_byte_at=last.byte_at,
            counts=self._metrics.counts(origin.source, origin.mode),
            streams=condition.streams,
        )


def _is_up(supervised: Supervised) -> float:
    return float(supervised.state is State.RUNNING and supervised.source.condition().up)
