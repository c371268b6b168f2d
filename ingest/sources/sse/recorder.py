"""Writes down when a source's streams listened, behind their backs: nobody who reads a stream waits for the store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from ingest.errors import IntervalLost, StoreUnavailable
from ingest.event import Origin
from ingest.protocols import Coverage
from ingest.retrying import wait_at_most
from ingest.sources.sse.coverage_tracker import CoverageTracker

log = structlog.get_logger(__name__)


class Recorder:
    """Gives Coverage what Listenings prove, in the order in which it came about. While the store is away it waits.

    A stream that was lost before another began is ended before that one is opened, however late its end is known.
    It writes every `every` seconds; `clock` (seconds) is the one that Listenings are timed by.
    """

    def __init__(self, origin: Origin, coverage: Coverage, every: float, clock: Callable[[], float]) -> None:
        self._origin = origin
        self._coverage = coverage
        self._every = every
        self._clock = clock
        self._listenings: list[tuple[CoverageTracker, list[CoverageTracker]]] = []  # each with those over before it
        self._work = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self._away = False

    def add(self, listening: CoverageTracker) -> None:
        """Note that a connection begins to listen."""
        before = [earlier for earlier, _ in self._listenings if earlier.is_over]
        self._listenings.append((listening, before))
        self._empty.clear()
        self.wake()

    def wake(self) -> None:
        """Note that something is over that should not wait."""
        self._work.set()

    async def empty(self) -> None:
        """Return when the ends of all connections are written."""
        await self._empty.wait()

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            self._work.clear()
            try:
                await self._write_all()
            except Exception as error:  # whatever it is, the streams behind whose backs this is written go on
                if not self._away:
                    fault = None if isinstance(error, StoreUnavailable) else error
                    log.warning("coverage_not_recorded", source=self._origin.source, error=str(error), exc_info=fault)
                self._away = True
                await asyncio.sleep(self._every)
                continue
            self._away = False
            await wait_at_most(self._work, self._every)

    async def _write_all(self) -> None:
        for listening, before in list(self._listenings):
            if not any(earlier.spans for earlier in before):
                await self._write(listening)
        self._listenings = [(listening, before) for listening, before in self._listenings if listening.spans]
        if not self._listenings:
            self._empty.set()

    async def _write(self, listening: CoverageTracker) -> None:
        """Write what is proven. Raises StoreUnavailable; what was written by then is not written again.

        An interval that was lost with the state of the database that knew it is begun again where it is proven: what
        was received before is gone too.
        """
        listening.advance()
        spans, coverage, clock = listening.spans, self._coverage, self._clock
        while spans:
            span = spans[0]
            if span.interval is None:
                since = max(span.began, span.written)
                opened = await coverage.open(self._origin, listening.stream, max(0.0, clock() - since))
                span.interval, span.written = opened.interval, since
            proven = span.proven
            try:
                if span.cause is not None:
                    await coverage.end(span.interval, span.cause, max(0.0, clock() - proven))
                    spans.popleft()
                    continue
                if proven > span.written:
                    await coverage.extend(span.interval, max(0.0, clock() - proven))
                    span.written = proven
            except IntervalLost as error:
                log.warning("coverage_lost", source=self._origin.source, error=str(error))
                span.interval, span.written = None, proven
                continue
            return
