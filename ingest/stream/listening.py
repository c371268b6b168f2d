"""What is proven about one connection: until when everything that upstream sent has been received, and is durable.

Only a byte proves anything, for a stalled connection looks like a quiet one: TCP keeps the order, so when a byte came,
whatever was sent before it had come too. It must be settled besides, and not stand behind something unread.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from ingest.event import Cause

LATENCY_SECONDS = 0.25  # what upstream may have sent, and the network not delivered, when a byte came
HELD_SECONDS = 0.25
_WAITED_SECONDS = 0.01  # a shorter wait is none: room was there, the processor was busy


@dataclass(slots=True)
class Span:
    """A stretch of listening by our own clock, in seconds: it ends where `proven` is, for `cause` when it is over.

    `interval` and `written` are what the store knows of it.
    """

    began: float
    proven: float
    cause: Cause | None = None
    interval: int | None = None
    written: float = float("-inf")


@dataclass(frozen=True, slots=True)
class _Mark:
    """Everything before `arrival` was read, and was offered as batch `batch` or before; `holds` happened by then."""

    arrival: float
    batch: int
    holds: int


class Listening:
    """One connection from its answer on. Spans are appended here, and taken from the left by who writes them down.

    A reader that was held may have made upstream drop events: then the span ends where it was proven before, and
    another begins with the first byte that proves something after.
    """

    def __init__(self, stream: int, at: float) -> None:
        self.stream = stream
        self.spans = deque([Span(began=at, proven=at)])
        self.is_over = False
        self._cause = Cause.STOPPED
        self._offered = 0
        self._settled = 0  # every batch up to here
        self._early: set[int] = set()  # settled before one that was offered earlier
        self._lost: int | None = None  # the first batch that will never be durable
        self._marks: deque[_Mark] = deque()
        self._last_mark = at
        self._holds = 0
        self._span_holds = 0
        self._held_at = float("-inf")
        self._waited = 0.0

    @property
    def began(self) -> float:
        """Since when the last span is."""
        return self.spans[-1].began if self.spans else float("inf")

    @property
    def proven(self) -> float:
        """Until when the last span is proven."""
        return self.spans[-1].proven if self.spans else float("-inf")

    @property
    def held(self) -> bool:
        """Whether reading was held, and nothing is proven since."""
        return self._holds > self._span_holds

    def offered(self) -> int:
        """The number of a batch that is about to be offered."""
        self._offered += 1
        return self._offered

    def settled(self, batch: int, *, durable: bool) -> None:
        """A batch has its outcomes; where it was deferred, nothing behind it can be proven any more."""
        if durable:
            self._early.add(batch)
            while self._settled + 1 in self._early:
                self._settled += 1
                self._early.remove(self._settled)
        else:
            self._lost = batch if self._lost is None else min(self._lost, batch)
        self._advance()

    def waited(self, seconds: float, at: float) -> None:
        """Offering took so long. Waits add up until the reader has caught up, for upstream's buffers fill all along."""
        if seconds > _WAITED_SECONDS:
            self._waited += seconds
            if self._waited > HELD_SECONDS:
                self.hold(at)

    def hold(self, at: float) -> None:
        """Reading was held until `at`: what was read by then proves nothing about the time since."""
        self._holds += 1
        self._held_at = at
        self._waited = 0.0

    def has_news(self, arrival: float) -> bool:
        """Whether a byte that came at `arrival` could prove anything that is not proven yet."""
        return arrival > max(self._last_mark, self._held_at)

    def caught_up(self, arrival: float) -> None:
        """The last byte came at `arrival`; behind it nothing was waiting, and no frame had begun."""
        if not self.has_news(arrival):
            return
        self._waited = 0.0
        self._last_mark = arrival
        mark, marks = _Mark(arrival, self._offered, self._holds), self._marks
        if len(marks) > 1 and marks[-2].holds == marks[-1].holds == mark.holds:
            marks[-1] = mark  # of each stretch the first and the last are enough, however long nothing is settled
        else:
            marks.append(mark)
        self._advance()

    def over(self, cause: Cause) -> None:
        """The connection has ended; the last span is over when what was read is settled."""
        if not self.is_over:
            self.is_over, self._cause = True, cause
            self._advance()

    def _advance(self) -> None:
        marks = self._marks
        while marks and marks[0].batch <= self._settled:
            self._prove(marks.popleft())
        if self._lost is not None:
            while marks and marks[-1].batch >= self._lost:
                marks.pop()
        if self.is_over and not marks and self.spans and self.spans[-1].cause is None:
            self.spans[-1].cause = Cause.OVERFLOW if self.held else self._cause

    def _prove(self, mark: _Mark) -> None:
        span = self.spans[-1]
        if mark.holds > self._span_holds:
            span.cause = Cause.OVERFLOW
            self._span_holds = mark.holds
            self.spans.append(Span(began=mark.arrival, proven=mark.arrival))
        else:
            span.proven = max(span.proven, mark.arrival - LATENCY_SECONDS)
