"""A Coverage that keeps what it is told, for what happens in front of it; it can be away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ingest.coverage import Gap, Opened
from ingest.errors import StoreUnavailable
from ingest.event import Cause, Origin
from ingest.times import elapsed


@dataclass
class Interval:
    """A stretch of listening, by the clock that the coverage was given."""

    stream: int
    since: float
    until: float
    cause: Cause | None = None


@dataclass
class RecordingCoverage:
    """protocols.Coverage without gaps: every interval as it was told."""

    clock: Callable[[], float] = elapsed
    away: bool = False
    relieved: bool = False
    fault: Exception | None = None
    intervals: list[Interval] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)

    async def open(self, origin: Origin, stream: int, ago: float = 0.0) -> Opened:
        """See protocols.Coverage."""
        self._called("open")
        at = self.clock() - ago
        self.intervals.append(Interval(stream, at, at))
        return Opened(len(self.intervals) - 1, (), ())

    async def extend(self, interval: int, ago: float = 0.0) -> None:
        """See protocols.Coverage."""
        self._called("extend")
        found = self.intervals[interval]
        found.until = max(found.until, self.clock() - ago)

    async def is_relieved(self, origin: Origin, stream: int) -> bool:
        """See protocols.Coverage: as the test says."""
        self._called("is_relieved")
        return self.relieved

    async def end(self, interval: int, cause: Cause, ago: float = 0.0) -> Sequence[Gap]:
        """See protocols.Coverage."""
        self._called("end")
        found = self.intervals[interval]
        found.until, found.cause = max(found.until, self.clock() - ago), cause
        return ()

    @property
    def causes(self) -> list[Cause | None]:
        """Why each interval ended; None: it has not."""
        return [interval.cause for interval in self.intervals]

    def _called(self, name: str) -> None:
        if self.away:
            raise StoreUnavailable("the test took it away")
        if self.fault is not None:
            raise self.fault
        self.calls.append(name)
