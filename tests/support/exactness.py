"""Whether recorded gaps are exact: judged from what the upstream did, what was done to the service, and its API.

Pure: everything here is a function of values, so that the judge itself can be shown to see each kind of wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tests.support.spans import Span, complement, meets, seconds, union
from tests.support.upstream.truth import Truth

CLOCK_SECONDS = 0.002  # the API's times, and SQLite's clock, have whole milliseconds
SLACK_SECONDS = 1.0  # around a fault: what it caused may be noticed a little before or after
SILENT = frozenset({"stall", "never_answer"})
CAUSES = {"stall": "idle", "kill": "down"}  # where the contract leaves no choice
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Hit:
    """One fault: what it was, when it began, and when events flowed again."""

    kind: str
    since: float
    until: float

    @property
    def span(self) -> Span:
        """When it lasted."""
        return self.since, self.until


@dataclass(frozen=True, slots=True)
class RecordedGap:
    """One row of /api/v1/gaps; `until` is None while it lasts."""

    since: float
    until: float | None
    cause: str


@dataclass(frozen=True, slots=True)
class Observed:
    """What the service says: how often each number is stored, its gaps, and arrivals of numbers that were sent again.

    An arrival is the stored event, or a sighting of it.
    """

    stored: Mapping[int, int]
    gaps: Sequence[RecordedGap]
    arrivals: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Limits:
    """What the service may need, in seconds: `idle` is its idle_timeout, `notice` what it needs for a fault it can see.

    `reconnect` is the time between the answer to a connection and the first instant that is recorded as covered.
    `inbox` is how many events it holds while its store is away: reading goes on until then.
    """

    idle: float
    notice: float = 1.0
    reconnect: float = 0.5
    inbox: float = float("inf")

    def of(self, hit: Hit, truth: Truth) -> float:
        """The detection time of one fault: by how much a gap may exceed the true deaf time because of it.

        * silent faults (`stall`, `never_answer`): nothing shows before the idle timeout, so `idle` and `reconnect`;
        * the store was away (`away`): as long as reading went on, `notice`; where it was held, because more came than
          the inbox holds (or upstream dropped some), a gap `overflow` may be as long as the fault itself: the reader
          had not caught up all that time, and cannot know whether upstream dropped any;
        * all others show by themselves: `notice` and `reconnect`. For a killed process `notice` is how long ago it may
          have written down last that it listened.
        """
        if hit.kind in SILENT:
            return self.idle + self.reconnect
        if hit.kind == "away":
            dropped = any(hit.since <= at <= hit.until for at in truth.dropped_at)
            held = dropped or truth.handed(*hit.span) >= self.inbox
            return self.notice + (hit.until - hit.since if held else 0.0)
        return self.notice + self.reconnect


def faults(observed: Observed, truth: Truth, hits: Sequence[Hit], limits: Limits) -> list[str]:
    """Every way in which the record is not exact; empty is good.

    1. Nothing is stored twice, or stored without having been handed to a connection.
    2. Every event that was sent and is not stored lies inside a recorded gap [since, until]: some instant of its
       sending does, give or take the clock's 2 ms. No gap is still open.
    3. Recorded gap time exceeds true deaf time by no more than the detection time per fault. This is asked of each
       recorded stretch by itself (gaps that touch are one stretch), and of each piece of one that is not truly deaf:
       what is too much of it is at most the sum of `Limits.of` over the faults that it meets, a second before or after
       included. Where it meets none it is made up.
    4. Copies that were sent again are duplicates: of a number that was sent more than once there are no more arrivals
       than copies handed over, and no fewer than of these were sent outside of every recorded gap.
    5. A stall is a gap with cause `idle`, a killed process one with cause `down`.
    """
    recorded = union((gap.since, gap.until or truth_end(truth)) for gap in observed.gaps)
    return [
        *_storing_faults(observed, truth),
        *_losses(observed, truth, recorded),
        *(f"a gap is still open: {gap}" for gap in observed.gaps if gap.until is None),
        *_excesses(recorded, truth, hits, limits),
        *_copies(observed, truth, recorded),
        *_causes(observed, hits),
    ]


def untouched_faults(observed: Observed, truth: Truth) -> list[str]:
    """What must not be where some stream listened all the time: a loss, a gap, a stretch in which none did."""
    return [
        *(f"no stream heard: {span}" for span in truth.deaf),
        *_storing_faults(observed, truth),
        *_losses(observed, truth, []),
        *(f"a gap where one stream heard: {gap}" for gap in observed.gaps),
    ]


def truth_end(truth: Truth) -> float:
    """When the last event was sent."""
    return max(copies[-1].done for copies in truth.sent.values())


def lost(observed: Observed, truth: Truth) -> list[int]:
    """The numbers that were sent and are not stored."""
    return sorted(truth.sent.keys() - observed.stored.keys())


def _storing_faults(observed: Observed, truth: Truth) -> Iterator[str]:
    if twice := [number for number, copies in observed.stored.items() if copies > 1]:
        yield f"stored more than once: {_some(twice)}"
    handed = {number for number, copies in truth.sent.items() if any(copy.handed for copy in copies)}
    if strangers := sorted(observed.stored.keys() - handed):
        yield f"stored but never handed over: {_some(strangers)}"


def _losses(observed: Observed, truth: Truth, recorded: Sequence[Span]) -> Iterator[str]:
    outside = [number for number in lost(observed, truth) if not meets(truth.lasted(number), recorded, CLOCK_SECONDS)]
    if outside:
        times = ", ".join(f"{truth.lasted(number)[0]:.3f}" for number in outside[:_SHOWN])
        yield f"lost outside of every gap: {_some(outside)} sent at {times}"


def _excesses(recorded: Sequence[Span], truth: Truth, hits: Sequence[Hit], limits: Limits) -> Iterator[str]:
    for stretch in union(recorded, CLOCK_SECONDS):
        excess = complement(truth.deaf, stretch)
        for span, extra in [(stretch, seconds(excess)), *((piece, seconds([piece])) for piece in excess)]:
            causes = [hit for hit in hits if meets(span, [hit.span], SLACK_SECONDS)]
            granted = sum(limits.of(hit, truth) for hit in causes)
            if extra > granted:
                named = ", ".join(hit.kind for hit in causes) or "no fault"
                of = f"{extra:.3f} s of {span[0]:.3f} to {span[1]:.3f}"
                yield f"recorded, but not deaf: {of}, {granted:.3f} s are granted ({named})"


def _copies(observed: Observed, truth: Truth, recorded: Sequence[Span]) -> Iterator[str]:
    for number, arrivals in observed.arrivals.items():
        copies = Counter[bool]()
        for copy in truth.sent[number]:
            copies[meets((copy.at, copy.done), recorded, CLOCK_SECONDS)] += len(copy.handed)
        if not copies[False] <= arrivals <= copies.total():
            yield f"{number} arrived {arrivals} times, was handed over {dict(copies)} times (True: inside a gap)"


def _causes(observed: Observed, hits: Sequence[Hit]) -> Iterator[str]:
    for hit in hits:
        if (cause := CAUSES.get(hit.kind)) is None:
            continue
        spans = [(gap.since, gap.until or hit.until) for gap in observed.gaps if gap.cause == cause]
        if not meets(hit.span, spans, SLACK_SECONDS):
            yield f"no gap with cause {cause} for {hit}"


def _some(found: Sequence[int]) -> str:
    return f"{len(found)} ({', '.join(map(str, found[:_SHOWN]))}{', …' if len(found) > _SHOWN else ''})"
