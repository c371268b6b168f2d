"""One observation after another, by the rules of contract §5: what is missing, what begins a run, what is not certain.

What is not certain is counted as ambiguous, and none of the numbers that it may have been is ever called lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ingest.sequences.changes import Changes, LossRange, LossState
from ingest.sequences.numbers import SequenceRules
from ingest.sequences.state import DeviceState, Hole, Run, Span

JUMP = 10_000  # a number further ahead starts a new run
_NEAR = 1_000  # a number less far below a young run's first belongs to it
_ABSURD = 1_000_000  # further away no number is followed, not even where its epoch says that it belongs to the run
_MAX_RUNS = 8
_MAX_HOLES = 64
_MAX_DOUBTFUL = 32
_MAX_FORGOTTEN = 16


class Observation(NamedTuple):
    """A number that came with an event of a device at `at` (microseconds), the digest of the data, and the epoch."""

    product: str
    device: str
    source: str
    number: int
    digest: bytes
    epoch: int | None
    at: int


def observe(state: DeviceState, seen: Observation, rules: SequenceRules, changes: Changes) -> None:
    """Take a number into the state, and note in `changes` what follows from it."""
    if not _is_simply_next(state, seen, rules):
        _Step(state, seen, rules, changes).take()
        return
    run = state.runs[-1]
    run.top += 1
    if not rules.by_epoch:
        state.remember(seen.number, seen.digest)
        run.remember(seen.number, seen.digest)


def _is_simply_next(state: DeviceState, seen: Observation, rules: SequenceRules) -> bool:
    """Return whether nothing needs to be looked at: as it nearly always is."""
    if not state.runs or rules.modulus is not None:
        return False
    run = state.runs[-1]
    if seen.number != run.top + 1 or run.holes:
        return False
    if rules.by_epoch:
        return seen.epoch is not None and seen.epoch == run.epoch
    return len(state.runs) == 1 and not state.has_just_come(seen.number, seen.digest)


def expire(state: DeviceState, product: str, device: str, now: int, modulus: int | None, changes: Changes) -> None:
    """Call lost what is missing and was due by `now`."""
    for run in state.runs:
        for hole in run.holes:
            if not hole.lost and hole.due_at <= now:
                hole.lost = True
                changes.missing[hole.source] -= hole.size()
                changes.lost[hole.source] += hole.size()
                changes.ranges[hole.id] = _range_of(hole, product, device, modulus)


def _range_of(hole: Hole, product: str, device: str, modulus: int | None) -> LossRange:
    first = hole.first if modulus is None else hole.first % modulus
    state = LossState.LOST if hole.lost else LossState.MISSING
    last = first + hole.size() - 1
    return LossRange(hole.id, hole.source, product, device, first, last, state, hole.noticed_at, hole.due_at)


def _rounds(first: int, last: int, modulus: int | None) -> Iterator[Span]:
    """Yield the numbers cut where the counter wraps."""
    while modulus is not None and first // modulus < last // modulus:
        end = (first // modulus + 1) * modulus - 1
        yield first, end
        first = end + 1
    yield first, last


class _Step:
    """One observation that is not simply the next number."""

    def __init__(self, state: DeviceState, seen: Observation, rules: SequenceRules, changes: Changes) -> None:
        self._state = state
        self._seen = seen
        self._rules = rules
        self._changes = changes

    def take(self) -> None:
        seen, rules = self._seen, self._rules
        expire(self._state, seen.product, seen.device, seen.at, rules.modulus, self._changes)
        if rules.modulus is not None and seen.number >= rules.modulus:
            self._count_ambiguous()
        elif rules.by_epoch:
            self._by_epoch()
        elif not self._state.has_just_come(seen.number, seen.digest):
            self._by_number()
        self._forget_holes()
        self._forget_runs()

    def _by_epoch(self) -> None:
        """The epoch alone decides which run it is."""
        state, epoch = self._state, self._seen.epoch
        run = next((run for run in state.runs if run.epoch == epoch), None)
        if epoch is None or epoch in state.forgotten:
            self._count_ambiguous()
        elif run is None:
            self._begin()
        else:
            number = self._unwrap(run)
            if not run.first - _ABSURD < number < run.top + _ABSURD:
                self._count_ambiguous()
            elif number > run.top:
                self._advance(run, number)
            elif number < run.first:
                self._extend(run, number)
            elif hole := run.hole_of(number):
                self._fill(run, hole, number)

    def _by_number(self) -> None:
        """Numbers and data decide which run it is."""
        if not self._state.runs:
            self._begin()
            return
        run = self._state.runs[-1]
        number = self._unwrap(run)
        if self._may_be_of_earlier(run, number):
            self._doubt(run, number)
        elif number > run.top + JUMP:
            self._begin()
        elif number > run.top:
            self._advance(run, number)
        elif number < run.first:
            self._extend(run, number) if run.first - number < _NEAR and self._is_young(run) else self._begin()
        elif hole := run.hole_of(number):
            self._fill(run, hole, number)
        else:
            self._again(run, number)

    def _again(self, run: Run, number: int) -> None:
        """A number that was seen: with the same data it is a resend, with other data the device has restarted."""
        known = self._state.recent_digest(self._seen.number) or run.remembered(number)
        if known is None:
            self._doubt(run, number)
        elif known != self._seen.digest:
            self._begin()

    def _may_be_of_earlier(self, run: Run, number: int) -> bool:
        """Whether it is what an earlier run misses, or goes on where that ended while the device begins again."""
        found = False
        for earlier in self._state.runs[:-1]:
            of_earlier = self._unwrap(earlier)
            if hole := earlier.hole_of(of_earlier):
                found = True
                self._cut(earlier, hole, of_earlier)
        if found or len(self._state.runs) < 2 or not self._is_young(run):
            return found
        before = self._state.runs[-2]
        ahead = self._unwrap(before) - before.top
        if 0 < ahead <= min(_NEAR, number - run.top - 1):
            before.top += ahead
            return True
        return False

    def _is_young(self, run: Run) -> bool:
        return self._seen.at <= run.began_at + self._rules.grace

    def _unwrap(self, run: Run) -> int:
        """The number as it would be if the counter did not wrap: the one nearest to the run's end."""
        modulus, number = self._rules.modulus, self._seen.number
        if modulus is None:
            return number
        ahead = (number - run.top) % modulus
        return run.top + (ahead if ahead <= modulus // 2 else ahead - modulus)

    def _begin(self) -> None:
        state, seen, modulus = self._state, self._seen, self._rules.modulus
        if state.runs and modulus:  # the new run's numbers are those of the last round
            back = state.runs[-1].top // modulus * modulus
            state.doubtful = [(first - back, last - back) for first, last in state.doubtful]
        number, first = seen.number, self._rules.first
        run = Run(number, number, seen.at, seen.epoch if self._rules.by_epoch else None)
        state.runs.append(run)
        state.own = 0
        if first is not None and 0 < number - first < _NEAR:
            run.first = first
            self._miss(run, first, number - 1)
        state.doubtful = [span for span in state.doubtful if span[1] > number]
        self._remember(run, number)

    def _advance(self, run: Run, number: int) -> None:
        begin, run.top = run.top + 1, number
        self._miss(run, begin, number - 1)
        self._remember(run, number)

    def _extend(self, run: Run, number: int) -> None:
        end = run.first - 1
        run.begin_at(number)
        self._miss(run, number + 1, end)
        self._remember(run, number)

    def _fill(self, run: Run, hole: Hole, number: int) -> None:
        changes, found = self._changes, _range_of(hole, self._seen.product, self._seen.device, self._rules.modulus)
        changes.recovered[hole.source, found.state] += 1
        self._cut(run, hole, number)
        at = number - hole.first
        raw = found.first + at
        changes.ranges[hole.id + at] = found._replace(id=hole.id + at, first=raw, last=raw, state=LossState.RECOVERED)
        self._remember(run, number)

    def _cut(self, run: Run, hole: Hole, number: int) -> None:
        """Take a number out of a hole: what is left are two, one or none."""
        run.holes.remove(hole)
        left = Hole(hole.id, hole.first, number - 1, hole.noticed_at, hole.due_at, hole.source, hole.lost)
        id_ = hole.id + number + 1 - hole.first
        right = Hole(id_, number + 1, hole.last, hole.noticed_at, hole.due_at, hole.source, hole.lost)
        self._changes.ranges[id_ - 1] = None
        if hole.lost:  # it was told, and stays so
            self._write(Hole(id_ - 1, number, number, hole.noticed_at, hole.due_at, hole.source, lost=True))
        else:
            self._changes.missing[hole.source] -= 1
        for part in (left, right):
            if part.size():
                run.holes.append(part)
                self._write(part)

    def _miss(self, run: Run, first: int, last: int) -> None:
        """Note that numbers are missing, but those that may have come."""
        if first > last:
            return
        for span in self._state.without_doubtful(first, last):
            for begin, end in _rounds(*span, self._rules.modulus):
                self._open(run, begin, end)

    def _open(self, run: Run, first: int, last: int) -> None:
        seen, count = self._seen, last - first + 1
        due_at = seen.at + self._rules.grace
        hole = Hole(self._changes.allot(count), first, last, seen.at, due_at, seen.source)
        self._changes.missing[seen.source] += count
        run.holes.append(hole)
        self._write(hole)

    def _write(self, hole: Hole) -> None:
        self._changes.ranges[hole.id] = _range_of(hole, self._seen.product, self._seen.device, self._rules.modulus)

    def _doubt(self, run: Run, number: int) -> None:
        """It cannot be told which number this is: none that it may be is missing any more."""
        self._count_ambiguous()
        if hole := run.hole_of(number):
            self._cut(run, hole, number)
        elif number == run.top + 1:
            run.top = number
        self._state.doubt(number, _MAX_DOUBTFUL)
        self._state.remember(self._seen.number, self._seen.digest)  # its resend is no other number
        self._state.own = 0

    def _count_ambiguous(self) -> None:
        self._changes.ambiguous[self._seen.source] += 1

    def _remember(self, run: Run, number: int) -> None:
        if not self._rules.by_epoch:
            self._state.remember(self._seen.number, self._seen.digest)
            run.remember(number, self._seen.digest)

    def _forget_holes(self) -> None:
        """Of too many holes forget the oldest, the lost ones first: what is forgotten cannot be told any more."""
        holes = [(not hole.lost, hole.noticed_at, hole.id, run) for run in self._state.runs for hole in run.holes]
        for _, _, id_, run in sorted(holes, key=lambda found: found[:3])[: max(0, len(holes) - _MAX_HOLES)]:
            self._forget(run, next(hole for hole in run.holes if hole.id == id_))

    def _forget(self, run: Run, hole: Hole) -> None:
        run.holes.remove(hole)
        if not hole.lost:
            self._changes.missing[hole.source] -= hole.size()
            self._changes.ambiguous[hole.source] += hole.size()
            self._changes.ranges[hole.id] = None

    def _forget_runs(self) -> None:
        """Keep of the runs before the newest what may still come, and of too many the newest that miss something."""
        runs, by_epoch = self._state.runs, self._rules.by_epoch
        if len(runs) > 1 and not by_epoch:
            kept = len(runs) - 2 if self._is_young(runs[-1]) else len(runs) - 1
            runs[:] = [run for at, run in enumerate(runs) if at >= kept or run.holes]
        while len(runs) > _MAX_RUNS:
            gone = next((run for run in runs[:-1] if not run.is_waiting()), runs[0])
            runs.remove(gone)
            for hole in list(gone.holes):
                self._forget(gone, hole)
            if gone.epoch is not None:
                self._state.forgotten = [*self._state.forgotten, gone.epoch][-_MAX_FORGOTTEN:]
