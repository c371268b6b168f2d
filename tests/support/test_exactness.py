"""The judge of gaps: it must see every kind of wrong record, or the fault runs prove nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from tests.chaos.stream_schedule import AWAY, KILL, RESEND, one_sided, schedule
from tests.support.exactness import Hit, Limits, Observed, RecordedGap, faults, lost, untouched_faults
from tests.support.numbered import number_of
from tests.support.raw_client import RawClient
from tests.support.spans import complement, meets, seconds, union
from tests.support.upstream.journal import Deaf, Entry, Hears, Sent
from tests.support.upstream.rules import Fault, Kind, Rules
from tests.support.upstream.server import Upstream
from tests.support.upstream.truth import Truth, truth_of

LIMITS = Limits(idle=2.0)
WITHIN = (100.0, 120.0)
FIRST, SECOND = 1, 2


def run() -> list[Entry]:
    """An event each tenth of a second for 20 s. One stream, stalled at 105; the next opens at 108 and begins with 49.

    At 112 the process is killed; the one after it is heard from 113 on.
    """
    hears: list[tuple[float, float, int]] = [(99.0, 105.0, 1), (108.0, 112.0, 2), (113.0, 1e9, 3)]
    entries: list[Entry] = []
    for since, until, connection in hears:
        entries.append(Hears(since, connection))
        if until < WITHIN[1]:
            entries.append(Deaf(until, connection, "stall"))
    for number in range(200):
        at = 100.05 + number / 10
        handed = [connection for since, until, connection in hears if since <= at < until]
        entries.append(Sent(number, at, at + 0.001, handed, []))
    entries.append(Sent(49, 108.0, 108.001, [2], [], again=True))
    return sorted(entries, key=lambda entry: entry.at)


HITS = [Hit("stall", 105.0, 108.2), Hit("kill", 112.0, 113.2)]


def good() -> tuple[Observed, Truth]:
    """What an honest service says of that run: it lost what was sent from 105 to 108 and from 112 to 113."""
    truth = truth_of(run(), WITHIN)
    stored = {number: 1 for number in range(200) if not 50 <= number < 80 and not 120 <= number < 130}
    gaps = [RecordedGap(104.96, 108.02, "idle"), RecordedGap(111.9, 113.05, "down")]
    return Observed(stored, gaps, {49: 2}), truth


def test_the_truth_is_when_nobody_could_receive() -> None:
    """From the stall, or the kill, to the next stream; and each copy of a number is there."""
    truth = truth_of(run(), WITHIN)
    assert truth.deaf == [(105.0, 108.0), (112.0, 113.0)]
    assert [len(truth.sent[number]) for number in (48, 49, 60)] == [1, 2, 1]
    assert truth.lasted(0) == (100.05, 100.051)


def test_one_of_two_streams_is_enough() -> None:
    """Nobody is deaf while any connection hears; dropped events make one deaf until the next that is handed over."""
    entries: list[Entry] = [
        Hears(99.0, 1),
        Hears(99.5, 2),
        Deaf(104.0, 1, "reset"),
        Hears(106.0, 3),
        Deaf(107.0, 2, "dropped"),
    ]
    assert truth_of(entries, WITHIN).deaf == []
    entries += [Deaf(108.0, 3, "dropped"), Hears(109.0, 3)]
    truth = truth_of(entries, WITHIN)
    assert truth.deaf == [(108.0, 109.0)]
    assert truth.dropped_at == [107.0, 108.0]


def test_an_exact_record_has_no_faults() -> None:
    """Losses inside of gaps, gaps that exceed the truth by less than it took to notice, copies counted."""
    observed, truth = good()
    assert faults(observed, truth, HITS, LIMITS) == []
    assert lost(observed, truth) == [*range(50, 80), *range(120, 130)]


WRONG: list[tuple[str, Callable[[Observed], Observed], str]] = [
    ("lost", lambda it: without(it, 150), "lost outside of every gap: 1 (150) sent at 115.050"),
    ("begins late", lambda it: gap(it, 0, since=105.3), "lost outside of every gap: 3 (50, 51, 52)"),
    ("ends early", lambda it: gap(it, 0, until=107.9), "lost outside of every gap: 1 (79)"),
    ("no gap", lambda it: replace(it, gaps=it.gaps[:1]), "lost outside of every gap: 10 (120"),
    ("twice", lambda it: replace(it, stored={**it.stored, 7: 2}), "stored more than once: 1 (7)"),
    ("stranger", lambda it: replace(it, stored={**it.stored, 60: 1}), "stored but never handed over: 1 (60)"),
    ("open", lambda it: gap(it, 1, until=None), "a gap is still open"),
    ("too long", lambda it: gap(it, 0, since=102.4), "recorded, but not deaf: 2.620 s of 102.400 to 108.020, 2.500 s"),
    (
        "made up",
        lambda it: replace(it, gaps=[*it.gaps, RecordedGap(116, 116.1, "error")]),
        "recorded, but not deaf: 0.100 s of 116.000 to 116.100, 0.000 s are granted (no fault)",
    ),
    (
        "killed, too long",
        lambda it: gap(it, 1, since=110.4),
        "not deaf: 1.650 s of 110.400 to 113.050, 1.500 s are granted (kill)",
    ),
    ("one for all", lambda it: replace(it, gaps=[RecordedGap(100, 120, "down")]), "are granted (stall, kill)"),
    ("lost copy", lambda it: replace(it, arrivals={49: 0}), "49 arrived 0 times"),
    ("copy too many", lambda it: replace(it, arrivals={49: 3}), "49 arrived 3 times"),
    ("wrong cause", lambda it: gap(it, 0, cause="closed"), "no gap with cause idle for Hit(kind='stall'"),
    ("not down", lambda it: gap(it, 1, cause="error"), "no gap with cause down for Hit(kind='kill'"),
]


def without(observed: Observed, number: int) -> Observed:
    """One event is not stored."""
    return replace(observed, stored={each: 1 for each in observed.stored if each != number})


def gap(observed: Observed, which: int, **changed: object) -> Observed:
    """One gap is recorded otherwise."""
    gaps = list(observed.gaps)
    gaps[which] = replace(gaps[which], **changed)  # type: ignore[arg-type]
    return replace(observed, gaps=gaps)


@pytest.mark.parametrize(("wrong", "said"), [pytest.param(*rest, id=name) for name, *rest in WRONG])
def test_each_wrong_record_is_seen(wrong: Callable[[Observed], Observed], said: str) -> None:
    """The good record, with one thing wrong."""
    observed, truth = good()
    found = faults(wrong(observed), truth, HITS, LIMITS)
    assert any(said in fault for fault in found), found


def test_what_each_fault_is_granted() -> None:
    """Silence the idle timeout; what shows by itself a second; an outage its whole length where events were dropped."""
    _, truth = good()
    away = Hit("away", 103.0, 109.0)
    assert LIMITS.of(Hit("never_answer", 0, 1), truth) == 2.5
    assert LIMITS.of(Hit("reset", 0, 1), truth) == 1.5
    assert LIMITS.of(away, truth) == 1.0
    assert LIMITS.of(away, replace(truth, dropped_at=[104.0])) == 7.0
    assert LIMITS.of(away, replace(truth, dropped_at=[110.0])) == 1.0
    assert truth.handed(*away.span) == 20 + 10 + 1
    assert replace(LIMITS, inbox=31).of(away, truth) == 7.0
    assert replace(LIMITS, inbox=32).of(away, truth) == 1.0


def test_two_streams_may_lose_nothing() -> None:
    """Any loss, any gap, and any stretch in which no stream heard, is a fault."""
    entries: list[Entry] = [
        Hears(99.0, 1),
        *(Sent(number, 101.0 + number, 101.1 + number, [1], []) for number in range(5)),
    ]
    truth = truth_of(entries, WITHIN)
    observed = Observed(Counter(range(5)), [])
    assert untouched_faults(observed, truth) == []
    assert untouched_faults(replace(observed, stored=Counter(range(4))), truth)
    assert untouched_faults(replace(observed, gaps=[RecordedGap(101, 102, "idle")]), truth)
    assert untouched_faults(observed, truth_of([*entries, Deaf(104.0, 1, "reset"), Hears(104.1, 2)], WITHIN))


def test_spans() -> None:
    """Sets of instants."""
    assert union([(3, 4), (1, 2), (1.5, 2.5)]) == [(1, 2.5), (3, 4)]
    assert union([(1, 2), (2.1, 3)], touching=0.2) == [(1, 3)]
    assert complement([(0, 1), (2, 3), (9, 12)], (0.5, 10)) == [(1, 2), (3, 9)]
    assert complement([], (1, 2)) == [(1, 2)]
    assert complement([(0, 3)], (1, 2)) == []
    assert seconds([(1, 2), (1.5, 4)]) == 3
    assert meets((1, 2), [(2, 3)])
    assert not meets((1, 2), [(2.1, 3)])
    assert meets((1, 2), [(2.1, 3)], slack=0.2)


def test_a_seed_is_a_schedule() -> None:
    """The same faults in the same order each time; of each kind as many as of any other."""
    assert schedule(1, 200) == schedule(1, 200) != schedule(2, 200)
    counts = Counter(step.kind for step in schedule(1, 200))
    assert set(counts) >= {"stall", "half_close", "reset", "cut", "refuse", "never_answer", RESEND, KILL, AWAY}
    assert set(counts) >= {"500", "429", "529", "html"}
    assert max(counts.values()) - min(counts.values()) <= 1
    assert all(step.fault is None for step in schedule(1, 200) if step.kind in {KILL, AWAY})
    assert {step.fault.streams for step in one_sided(1, 50) if step.fault} == {"oldest", "newest"}


def test_brief_schedules_have_what_matters_most() -> None:
    """The short run of `make check` meets silence, a killed process, a store that is away, and events sent again."""
    for seed in range(20):
        assert {"stall", KILL, AWAY, RESEND} <= {step.kind for step in schedule(seed, 10, brief=True)}


IDLE_SECONDS = 0.4
PAUSE_SECONDS = 0.05
NUMBER = re.compile(rb"^data: (.*)$", re.MULTILINE)


class Consumer:
    """The least that is exact: it listens until a stream ends or is silent, says when it heard, and opens another.

    `late` is a mistake: its gaps begin when it noticed, not when it last heard.
    """

    def __init__(self, url: str, *, late: bool = False) -> None:
        self.stored: Counter[int] = Counter()
        self.gaps: list[RecordedGap] = []
        self.listens = asyncio.Event()
        self._url = url
        self._late = late
        self._heard_at: float | None = None

    async def run(self) -> None:
        """Listen until cancelled."""
        while True:
            with contextlib.suppress(OSError, EOFError, asyncio.IncompleteReadError, TimeoutError):
                await self._listen()
            if self._late and self._heard_at:
                self._heard_at = time.time()
            await asyncio.sleep(PAUSE_SECONDS)

    async def _listen(self) -> None:
        client = await RawClient.connect(self._url)
        try:
            await asyncio.wait_for(client.get(self._url), IDLE_SECONDS)
            if "text/event-stream" not in client.head:
                return
            if self._heard_at is not None:
                self.gaps.append(RecordedGap(self._heard_at, time.time(), "idle"))
            rest = b""
            while True:
                self._heard_at = time.time()
                self.listens.set()
                rest += await asyncio.wait_for(client._more(), IDLE_SECONDS)
                *frames, rest = rest.split(b"\n\n")
                self.stored.update(filter(None, map(number_in, frames)))
        finally:
            client.close()


def number_in(frame: bytes) -> int | None:
    """The number of the event in a frame; None where it has none."""
    found = NUMBER.search(frame)
    numbered = number_of(json.loads(found[1])["data"].encode()) if found else None
    return numbered[1] if numbered else None


STRUCK: Sequence[Kind] = ("stall", "reset", "cut", "refuse", "500", "never_answer", "half_close")


async def struck(kinds: Sequence[Kind], *, late: bool = False) -> list[str]:
    """What the judge says of a consumer whose upstream met these faults."""
    async with Upstream(Rules(keep_alive_seconds=0.1)) as upstream:
        consumer = Consumer(upstream.url, late=late)
        consuming = asyncio.create_task(consumer.run())
        await consumer.listens.wait()  # before it ever heard, it can have no gap
        began, hits = time.time(), []
        publishing = asyncio.create_task(publish(upstream))
        for kind in kinds:
            since = time.time()
            before = upstream.streams
            await upstream.fault(Fault(kind=kind, seconds=0.2 if kind == "refuse" else 0.0))
            await upstream.wait_for(lambda: bool(upstream.streams) and upstream.streams != before)  # noqa: B023
            await asyncio.sleep(0.2)
            hits.append(Hit(kind, since, time.time()))
        publishing.cancel()
        await asyncio.sleep(0.1)
        consuming.cancel()
        await asyncio.gather(publishing, consuming, return_exceptions=True)
        truth = truth_of(upstream.journal.entries, (began, time.time()))
        assert len(truth.deaf) >= len(kinds)
        return faults(Observed(consumer.stored, consumer.gaps), truth, hits, Limits(IDLE_SECONDS, 0.2, 0.1))


async def publish(upstream: Upstream) -> None:
    """An event every few milliseconds, from number 1."""
    number = 0
    while True:
        number += 1
        await upstream.publish(number)
        await asyncio.sleep(0.005)


async def test_an_exact_consumer_passes_on_a_real_upstream() -> None:
    """Truth and judge agree with what a consumer can know, over real faults."""
    assert await struck(STRUCK) == []


async def test_a_consumer_whose_gaps_begin_late_does_not() -> None:
    """A gap from when silence was noticed, and not from when something was last heard, misses what was lost before."""
    assert any("lost outside" in fault for fault in await struck(["stall"], late=True))
