"""Coverage that counts: gaps as they begin, their seconds and what they may have cost as they end, each with a line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import structlog

from ingest.coverage import Gap, Opened
from ingest.event import Cause, Mode, Origin
from ingest.metrics import Metrics
from ingest.protocols import Coverage
from ingest.times import rfc3339

log = structlog.get_logger(__name__)


class CountedCoverage:
    """protocols.Coverage around another one."""

    def __init__(self, coverage: Coverage, metrics: Metrics) -> None:
        self._coverage = coverage
        self._metrics = metrics
        self._origins: dict[int, Origin] = {}
        self._open: dict[tuple[str, str], Gap] = {}
        self._configured: list[tuple[str, str]] = []
        self._shown = True

    def declare(self, source: str, mode: Mode) -> None:
        """Show that no gap of a configured source and mode is known yet."""
        self._metrics.declare_coverage(source, mode)
        self._configured.append((source, mode))

    def follow(self, lasting: Iterable[tuple[tuple[str, str], Gap]], *, shown: bool = True) -> None:
        """Go by the gaps that last in the store: another process may have begun or ended them, and counted.

        `shown`: whether this process shows them as a metric; of several processes one does.
        """
        self._shown = shown
        self._open = {key: gap for key, gap in lasting if key in self._configured}
        for key in self._configured:
            self._show(*key)

    def open_gap(self, source: str, mode: str) -> Gap | None:
        """Return the gap that lasts, as far as this process knows."""
        return self._open.get((source, mode))

    async def open(self, origin: Origin, stream: int, ago: float = 0.0) -> Opened:
        """See protocols.Coverage."""
        opened = await self._coverage.open(origin, stream, ago)
        self._origins[opened.interval] = origin
        for gap in opened.ended:
            self._count_end(origin, gap)
        for gap in opened.found:
            self._count_begin(origin, gap)
        self._open.pop((origin.source, origin.mode), None)
        self._show(origin.source, origin.mode)
        return opened

    async def extend(self, interval: int, ago: float = 0.0) -> None:
        """See protocols.Coverage."""
        await self._coverage.extend(interval, ago)

    async def is_relieved(self, origin: Origin, stream: int) -> bool:
        """See protocols.Coverage."""
        return await self._coverage.is_relieved(origin, stream)

    async def end(self, interval: int, cause: Cause, ago: float = 0.0) -> Sequence[Gap]:
        """See protocols.Coverage."""
        gaps = await self._coverage.end(interval, cause, ago)
        if (origin := self._origins.pop(interval, None)) is not None:
            for gap in gaps:
                self._count_begin(origin, gap)
        return gaps

    def _count_begin(self, origin: Origin, gap: Gap) -> None:
        labels = origin.source, origin.mode
        self._metrics.gaps.labels(*labels, gap.cause.value).inc()
        say = log.info if gap.cause is Cause.STOPPED else log.warning
        say("gap_began", source=labels[0], mode=labels[1], cause=gap.cause.value, since=rfc3339(gap.since))
        if gap.until is None:
            self._open[labels] = gap
            self._show(*labels)
        else:
            self._count_end(origin, gap)

    def _show(self, source: str, mode: str) -> None:
        gauge = self._metrics.gap_open
        if self._shown:
            gauge.labels(source, mode).set((source, mode) in self._open)
        else:
            gauge.remove_by_labels({"source": source, "mode": mode})

    def _count_end(self, origin: Origin, gap: Gap) -> None:
        labels = origin.source, origin.mode
        assert gap.until is not None, "a gap that lasts has not ended"  # noqa: S101 - a broken Coverage
        seconds = (gap.until - gap.since).total_seconds()
        self._metrics.gap_seconds.labels(*labels, gap.cause.value).inc(seconds)
        self._metrics.suspected_lost.labels(labels[0]).inc(gap.suspected)
        log.info(
            "gap_ended",
            source=labels[0],
            mode=labels[1],
            cause=gap.cause.value,
            seconds=round(seconds, 3),
            suspected=round(gap.suspected, 1),
        )
