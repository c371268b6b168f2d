"""Keeps the record that an endpoint listens: while it runs, until it stops, and not while the process was suspended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from ingest.errors import IntervalLost, StoreUnavailable
from ingest.event import Cause, Origin
from ingest.protocols import Coverage
from ingest.times import elapsed

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class EndpointCoverageRules:
    """The times of the record, in seconds: between extensions, of a lateness that is no busy machine's, for a stop."""

    extend: float = 2.0
    suspended: float = 10.0  # a busy event loop may wake late, but not by so much
    stop: float = 3.0  # a frozen store must not hold up the shutdown; unsaid, the stop shows as `down` later


class EndpointCoverage:
    """One interval of coverage, opened, extended and ended.

    `clock` counts seconds, also while the machine sleeps; nobody sets it, as the time of day is set.
    """

    def __init__(
        self,
        coverage: Coverage,
        origin: Origin,
        rules: EndpointCoverageRules,
        clock: Callable[[], float] = elapsed,
    ) -> None:
        self._coverage = coverage
        self._origin = origin
        self._rules = rules
        self._clock = clock
        self._interval: int | None = None
        self._extended_at = clock()
        self._wakes_at = float("inf")
        self._was_suspended = False
        self._stopped = False
        self._turn = asyncio.Lock()

    async def run(self) -> None:
        """Record, until cancelled, that the endpoint is listening; a store that is away is asked again."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch())
            await self._record()

    async def stop(self) -> None:
        """Record that the endpoint listens no more, on purpose; give up where that takes too long."""
        self._stopped = True
        self._wake()
        try:
            async with asyncio.timeout(self._rules.stop), self._turn:
                await self._end(Cause.STOPPED, self._clock() - self._extended_at if self._was_suspended else 0.0)
        except (StoreUnavailable, TimeoutError) as error:
            log.warning("stop_not_recorded", source=self._origin.source, error=str(error) or "no answer in time")

    async def _record(self) -> None:
        while True:
            try:
                async with self._turn:
                    await self._attend()
            except (
                Exception
            ) as error:  # whatever it is, the endpoint takes events, and must not count as one that failed
                fault = None if isinstance(error, StoreUnavailable) else error
                log.warning("coverage_not_recorded", source=self._origin.source, error=str(error), exc_info=fault)
            await asyncio.sleep(self._rules.extend)

    async def _attend(self) -> None:
        if self._stopped:
            return
        self._wake()
        if self._was_suspended:
            await self._end(Cause.DOWN, ago=self._clock() - self._extended_at)
            self._was_suspended = False
        looked_at = self._clock()
        if self._interval is not None:
            try:
                await self._coverage.extend(self._interval)
            except IntervalLost as error:
                self._forget(error)
        if self._interval is None:
            self._interval = (await self._coverage.open(self._origin, 0)).interval
        self._extended_at = looked_at

    async def _end(self, cause: Cause, ago: float = 0.0) -> None:
        if self._interval is None:
            return
        try:
            await self._coverage.end(self._interval, cause, ago)
        except IntervalLost as error:
            self._forget(error)
            self._interval = (await self._coverage.open(self._origin, 0, ago)).interval
            await self._coverage.end(self._interval, cause, ago)
        self._interval = None

    def _forget(self, error: IntervalLost) -> None:
        log.warning("coverage_lost", source=self._origin.source, error=str(error))
        self._interval = None

    async def _watch(self) -> None:
        """Look at the clock now and again, also while the store is asked: it may take long without a suspension."""
        while True:
            self._wakes_at = self._clock() + self._rules.extend
            await asyncio.sleep(self._rules.extend)
            self._wake()

    def _wake(self) -> None:
        """Note it where the process was suspended until now. Whoever writes asks too: it may be the first to run."""
        now = self._clock()
        if (late := now - self._wakes_at) > self._rules.suspended:
            log.warning("suspended", source=self._origin.source, seconds=round(late, 1))
            self._wakes_at = now
            self._was_suspended = True
