"""Whether deliveries kept the promise: judged from the receiver's journal, the store's rows, and what was done to both.

Pure: everything here is a function of values, so that the judge itself can be shown to see each kind of wrong.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import pairwise
from uuid import UUID

from tests.support.deliveries.account import Account, Row, Stored
from tests.support.deliveries.answers import STATUS, TAKEN, Answer
from tests.support.deliveries.journal import Delivered, Entry, Flooded, kinds

FLOOD_BYTES = 16 << 20  # what sockets and buffers may hold of an answer that nobody reads; a GiB is far more
_KEPT = 21  # attempts: the first, and the last 20
_SHOWN_LATE = 0.5  # seconds until the row of a circuit that was closed says so
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Rules:
    """What was promised, and what was done meanwhile; times are in seconds since 1970.

    `devices`: whose events the handler wants. `deaths`: when the server was killed; what had been answered in the
    `unsaved` seconds before may come again.
    `open`: when the circuit was seen open all the time. A probe comes at most each `probe` seconds, and what was in
    flight when it opened has `timeout` seconds to end. `attempts`: how many an event has.
    """

    devices: Set[str]
    attempts: int
    timeout: float
    probe: float
    deaths: Sequence[float] = ()
    unsaved: float = 2.0
    open: Sequence[tuple[float, float]] = ()


@dataclass(frozen=True, slots=True)
class Case:
    """One run, put in order."""

    rules: Rules
    account: Account
    wanted: Mapping[UUID, Stored]
    deliveries: Sequence[Delivered]
    rows: Mapping[int, Row]
    of_event: Mapping[UUID, Sequence[Delivered]]


def faults(entries: Sequence[Entry], account: Account, rules: Rules) -> list[str]:
    """Every way in which the promise was broken; empty is good.

    1. Each request verifies, and is of a stored event that the handler wants, at the handler's address.
    2. Each event that is wanted and was passed was taken by the receiver, or is a dead letter with its attempts, or is
       parked. A dead letter has failed, last of all; what its row tells of its attempts, the receiver knows too.
    3. No event of a device comes after a later one was taken, unless it is a repetition: it was taken, or given up,
       before that.
    4. An event that was taken comes again only where the process died before it had saved that.
    5. position - first = unmatched + delivered + deleted + skipped + rows, and each of these is what it says.
    6. While the circuit is open no event dies, and nothing comes but the probes.
    7. Of an answer without end only a beginning is taken.
    """
    deliveries = kinds(entries, Delivered)
    of_event: defaultdict[UUID, list[Delivered]] = defaultdict(list)
    for delivery in deliveries:
        of_event[delivery.id].append(delivery)
    first = account.tally.first
    wanted = {each.id: each for each in account.events if each.position > first and each.device in rules.devices}
    case = Case(rules, account, wanted, deliveries, {row.position: row for row in account.rows}, of_event)
    return [
        *_strangers(case),
        *_losses(case),
        *_dead_letters(case),
        *_disorder(case),
        *_duplicates(case),
        *_wrong_sums(case),
        *_deaths_while_open(case),
        *_attempts_while_open(case),
        *(f"took {each.taken} bytes of an answer" for each in kinds(entries, Flooded) if each.taken > FLOOD_BYTES),
    ]


def _strangers(case: Case) -> Iterator[str]:
    if wrong := [f"{each.id}: {each.fault}" for each in case.deliveries if each.fault]:
        yield f"wrong requests: {_some(wrong)}"
    if unwanted := [str(each) for each in case.of_event if each not in case.wanted]:
        yield f"delivered, but not stored or not wanted: {_some(unwanted)}"


def _losses(case: Case) -> Iterator[str]:
    lost = [
        stored.position
        for stored in case.wanted.values()
        if stored.position <= case.account.tally.position
        and stored.position not in case.rows
        and not any(each.answer in TAKEN for each in case.of_event.get(stored.id, ()))
    ]
    if lost:
        yield f"lost: {_some(lost)}"


def _dead_letters(case: Case) -> Iterator[str]:
    ids = {stored.position: stored.id for stored in case.wanted.values()}
    for row in case.rows.values():
        if not row.dead:
            continue
        seen = case.of_event.get(ids[row.position], ()) if row.position in ids else ()
        if not row.attempts or not row.history:
            yield f"dead without an attempt: {row}"
        if seen and seen[-1].answer in TAKEN:
            yield f"dead, though its last delivery was taken: {row}"
        if len(row.history) != min(row.attempts, _KEPT):
            yield f"a history that is not of its attempts: {row}"
        if row.attempts < case.rules.attempts and not _refused(seen):
            yield f"dead before it had {case.rules.attempts} attempts: {row}"
        told = Counter(each.status for each in row.history if each.status is not None)
        if strange := told - Counter(STATUS.get(each.answer, 0) for each in seen):
            yield f"attempts that the receiver does not know: {dict(strange)} of {row}"


def _disorder(case: Case) -> Iterator[str]:
    """Look at each device's deliveries in the order in which they came."""
    taken: dict[str, int] = {}  # by device the last position that was taken
    before: defaultdict[UUID, list[Delivered]] = defaultdict(list)
    wrong = []
    for delivery in case.deliveries:
        stored = case.wanted.get(delivery.id)
        if stored is None or stored.device is None:
            continue
        last = taken.get(stored.device, 0)
        if stored.position < last and not _is_over(case.rules, before[delivery.id], delivery):
            wrong.append(f"{stored.position} after {last}")
        if delivery.answer in TAKEN:
            taken[stored.device] = max(last, stored.position)
        before[delivery.id].append(delivery)
    if wrong:
        yield f"out of order: {_some(wrong)}"


def _is_over(rules: Rules, before: Sequence[Delivered], again: Delivered) -> bool:
    """Return whether an event had been taken, or given up, before it came again; of both the process may know nothing.

    Attempts that fail in the handshake are seen by nobody here: half of them are granted.
    """
    if any(each.answer in TAKEN for each in before):
        return True
    died = any(each.at < death < again.at for each in before for death in rules.deaths)
    return died and (_refused(before) or 2 * len(before) >= rules.attempts)


def _refused(seen: Sequence[Delivered]) -> bool:
    return any(each.answer is Answer.REFUSED for each in seen)


def _duplicates(case: Case) -> Iterator[str]:
    rules = case.rules
    wrong = []
    for id_, seen in case.of_event.items():
        for each, again in pairwise(seen):
            unsaved = any(each.at < death < min(again.at, each.at + rules.unsaved) for death in rules.deaths)
            if each.answer in TAKEN and not unsaved:
                wrong.append(f"{id_} at {each.at:.3f} ({each.answer}) and {again.at:.3f}")
    if wrong:
        yield f"twice, though the first was taken and saved: {_some(wrong)}"


def _wrong_sums(case: Case) -> Iterator[str]:
    tally, rows = case.account.tally, case.account.rows
    passed = tally.position - tally.first
    if passed != tally.unmatched + tally.delivered + tally.deleted + tally.skipped + len(rows):
        yield f"passed {passed} is not the sum of {tally} and {len(rows)} rows"
    events = [each for each in case.account.events if tally.first < each.position <= tally.position]
    unmatched = sum(each.id not in case.wanted for each in events)
    if tally.unmatched != unmatched:
        yield f"tallied {tally.unmatched} as unmatched, but {unmatched} are"
    if strange := [row.position for row in rows if row.position not in _positions(case)]:
        yield f"rows of events that are not wanted: {_some(strange)}"


def _positions(case: Case) -> Set[int]:
    return {stored.position for stored in case.wanted.values()}


def _deaths_while_open(case: Case) -> Iterator[str]:
    for row in case.rows.values():
        if (
            row.dead
            and row.history
            and any(since < row.history[-1].at.timestamp() < until - _SHOWN_LATE for since, until in case.rules.open)
        ):
            yield f"died while the circuit was open: {row}"


def _attempts_while_open(case: Case) -> Iterator[str]:
    times = [each.at for each in case.deliveries]
    for since, until in case.rules.open:
        settled = since + case.rules.timeout
        came = bisect_right(times, until) - bisect_right(times, settled)
        granted = 2 + (until - settled) / case.rules.probe
        if until > settled and came > granted:
            yield f"{came} deliveries while the circuit was open from {since:.3f} to {until:.3f}"


def _some(found: Sequence[object]) -> str:
    return f"{len(found)} ({', '.join(map(str, found[:_SHOWN]))}{', …' if len(found) > _SHOWN else ''})"
