"""The proofs about one connection: until when everything that upstream sent has been received, and is durable.

A look finds that all that has come is read, and no frame has begun. That proves nothing yet, for a stalled connection
looks like a quiet one. But a byte that comes later was sent later, and TCP keeps the order: nothing was under way then.
So a later byte proves the look; and not itself, as nobody knows how long it lay there before we read it. The end of a
connection proves nothing: the kernel of a machine that has long forgotten us closes in good order too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ingest.event import Cause, Outcome

HELD_SECONDS = 0.25
_WAITED_SECONDS = 0.01  # a shorter wait is none: room was there, the processor was busy


class Settled(Protocol):
    """The outcomes to come of what was offered: an asyncio.Future, sample at and not awaited."""

    def done(self) -> bool:
        """Return whether they are there."""
        ...

    def result(self) -> Sequence[Outcome]:
        """Return them."""
        ...


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
class _Look:
    """At that time everything was read, and offered as batch `batch` or before; `holds` had happened by then.

    What was sent up to `proves` had arrived.
    """

    at: float
    proves: float
    batch: int
    holds: int
    reads: int


class CoverageTracker:
    """One connection from its answer on. Spans are appended here, and taken from the left by who writes them down.

    A reader that was held may have made upstream drop events: then the span ends where it was proven before, and
    another begins with the first look after it that a byte proves.
    """

    def __init__(self, stream: int, at: float) -> None:
        self.stream = stream
        self.spans = deque([Span(began=at, proven=at)])
        self.is_over = False
        self._cause = Cause.STOPPED
        self._offered = 0
        self._settled = 0  # every batch up to here
        self._unsettled: deque[Settled] = deque()  # the batches after it
        self._lost: int | None = None  # the first batch that will never be durable
        self._last_look: _Look | None = None  # no byte has come since
        self._proofs: deque[_Look] = deque()  # a byte has: they wait for their batches
        self._holds = 0
        self._span_holds = 0
        self._hold_cause = Cause.OVERFLOW
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
        """Return whether reading was held, and nothing is proven since."""
        return self._holds > self._span_holds

    def offered(self, settled: Settled) -> None:
        """Note that a batch was offered, and will be settled."""
        self._offered += 1
        self._unsettled.append(settled)

    def advance(self) -> None:
        """Take note of what was settled. Where a batch was deferred, nothing behind it can be proven any more."""
        while self._unsettled and self._unsettled[0].done():
            self._settled += 1
            if Outcome.DEFERRED in self._unsettled.popleft().result() and self._lost is None:
                self._lost = self._settled
        proofs = self._proofs
        while proofs and proofs[0].batch <= self._settled and not self._is_lost(proofs[0]):
            self._prove(proofs.popleft())
        while proofs and self._is_lost(proofs[-1]):
            proofs.pop()
        if self.is_over and not proofs and self.spans and self.spans[-1].cause is None:
            self.spans[-1].cause = self._hold_cause if self.held else self._cause

    def waited(self, seconds: float, at: float) -> None:
        """Offering took so long. Waits add up until the reader has caught up, for upstream's buffers fill all along."""
        if seconds > _WAITED_SECONDS:
            self._waited += seconds
            if self._waited > HELD_SECONDS:
                self.hold(at)

    def hold(self, at: float, cause: Cause = Cause.OVERFLOW) -> None:
        """Reading was held until `at`; of several in a row the first is the cause."""
        if not self.held:
            self._hold_cause = cause
        self._holds += 1
        self._held_at = at
        self._waited = 0.0

    def sample(self, at: float, reads: int, latency: float) -> None:
        """At that time nothing was waiting to be read, no frame had begun, and `reads` reads of the network were over.

        Before it, `confirm` must have been told of these. What was sent `latency` seconds ago, or later, may be under
        way.
        """
        if at >= self._held_at:
            self._waited = 0.0
            self._last_look = _Look(at, at - latency, self._offered, self._holds, reads)

    def confirm(self, reads: int) -> None:
        """So many reads of the network have given bytes by now."""
        look, proofs = self._last_look, self._proofs
        if look is None or reads <= look.reads:
            return
        self._last_look = None
        if len(proofs) > 1 and proofs[-2].holds == proofs[-1].holds == look.holds:
            proofs[-1] = look  # of each stretch the first and the last are enough, however long nothing is settled
        else:
            proofs.append(look)
        self.advance()

    def over(self, cause: Cause) -> None:
        """Note that the connection has ended; the last span is over when what was read is settled."""
        if not self.is_over:
            self.is_over, self._cause = True, cause
            self.advance()

    def _is_lost(self, look: _Look) -> bool:
        return self._lost is not None and look.batch >= self._lost

    def _prove(self, look: _Look) -> None:
        span = self.spans[-1]
        if look.holds > self._span_holds:
            span.cause = self._hold_cause
            self._span_holds = look.holds
            self.spans.append(Span(began=look.at, proven=look.at))
        else:
            span.proven = max(span.proven, look.proves)
