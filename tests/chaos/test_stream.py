"""A stream that is stalled, cut, refused and killed: what is lost lies in a recorded gap, and the gaps are exact."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.scene import PATH, POSTGRES, SQLITE, store_of
from tests.chaos.stream_scene import IDLE_SECONDS, KEEP_ALIVE_SECONDS, TOKEN, Scene, pause, stream_server
from tests.chaos.stream_schedule import one_sided, schedule
from tests.support.exactness import Limits, faults, lost, untouched_faults
from tests.support.ledger import Ledger
from tests.support.losses import GAPS
from tests.support.observed import duplicates, newest_number, observe, pages
from tests.support.oracle import Load, get_json, plan, verify, verify_metrics
from tests.support.server import PATIENCE_SECONDS, Server, wait_until
from tests.support.upstream.journal import Closed, Deaf, Entry, Hears, Listening
from tests.support.upstream.rules import Fault
from tests.support.upstream.running import RunningUpstream, upstream_plan
from tests.support.upstream.truth import truth_of

RUN = "stream"
RULES = {"token": TOKEN, "keep_alive_seconds": KEEP_ALIVE_SECONDS, "send_buffer": 8192, "backlog": 16_384}
NOTICE_SECONDS = 1.0  # beyond the idle timeout
RETURN_SECONDS = 6.0
PROVEN_SECONDS = 10.5
BOTH_WAYS, HEAD_START = 10_000, 100
BOTH_WAYS_PAUSE_SECONDS = (0.0003, 0.0005)
SIGHTED = 50
ROOMY, NARROW = 20_000, 500  # events in the inbox: enough for an outage, or so few that reading must stop
QUICK = [(SQLITE, 2, 10)]
SEEDS = range(211, 221)  # each kind of fault about once
LONG = [(SQLITE, 201, 200), (POSTGRES, 202, 60), *((SQLITE, seed, 20) for seed in SEEDS)]


@contextmanager
def consuming(store: str, folder: Path, **rest: Any) -> Iterator[Scene]:
    """A server that consumes the streams of an upstream, which publishes nothing yet."""
    upstream = RunningUpstream(upstream_plan(RUN, folder, rules=RULES, pause_seconds=None))
    with upstream, stream_server(store, folder, upstream.url, **rest) as server:
        yield Scene(server, upstream, store, rest.get("streams", 1))


def verify_store(store: str, numbers: int) -> None:
    """Its tallies, sightings and positions fit together, and it holds each event once, of these numbers only."""
    ledger = Ledger()
    ledger.sent(0, numbers)
    verify(store, {RUN: ledger})


@pytest.mark.parametrize(
    ("store", "seed", "count"), [*QUICK, *(pytest.param(*run, marks=pytest.mark.chaos) for run in LONG)]
)
def test_what_is_lost_lies_in_a_recorded_gap(store: str, seed: int, count: int, tmp_path: Path) -> None:
    """Faults of every kind, kill -9 and a store that is away among them: `exactness.faults` says what must hold."""
    brief = (store, seed, count) in QUICK
    inbox = ROOMY if brief else NARROW
    with store_of(store, tmp_path) as url, consuming(url, tmp_path, inbox_events=inbox, losses=GAPS) as scene:
        began = scene.begin()
        scene.play(schedule(seed, count, brief=brief))
        truth = truth_of(scene.upstream.entries, (began, scene.end()))
        again = [number for number, copies in truth.sent.items() if len(copies) > 1]
        observed = observe(scene.server.url, RUN, again)
        found = faults(observed, truth, scene.hits, Limits(IDLE_SECONDS, inbox=inbox))
        assert not found, "\n".join(found)
        assert again, "nothing was sent again: the run proves nothing"
        assert lost(observed, truth), "the faults cost nothing: the run proves nothing"
        verify_metrics(scene.server.url)
        verify_store(url, scene.upstream.newest + 1)


@pytest.mark.parametrize(("seed", "count"), [(3, 5), pytest.param(203, 100, marks=pytest.mark.chaos)])
def test_two_streams_lose_nothing(seed: int, count: int, tmp_path: Path) -> None:
    """Faults that hit one stream at a time: every event is stored once, second copies are redundant, no gap."""
    with store_of(SQLITE, tmp_path) as url, consuming(url, tmp_path, streams=2) as scene:
        began = scene.begin()
        scene.play(one_sided(seed, count))
        truth = truth_of(scene.upstream.entries, (began, scene.end()))
        observed = observe(scene.server.url, RUN)
        found = untouched_faults(observed, truth)
        assert not found, "\n".join(found)
        assert duplicates(scene.server.url)["redundant"] > 0
        verify_metrics(scene.server.url)
        verify_store(url, scene.upstream.newest + 1)


@pytest.mark.parametrize(
    ("stream_objects", "hook_objects"),
    [(False, False), pytest.param(True, False, id="object-text"), pytest.param(False, True, id="text-object")],
)
def test_the_same_events_both_ways_are_stored_once(stream_objects: bool, hook_objects: bool, tmp_path: Path) -> None:
    """10,000 events by webhook and by stream at once: 10,000 stored, 10,000 `overlap`, each seen by both ways.

    The first come by the stream alone, the next by webhook alone, and the rest as the two overtake one another.
    """
    rules = RULES | {"as_object": stream_objects, "send_buffer": None, "backlog": 1 << 24}
    upstream = RunningUpstream(upstream_plan(RUN, tmp_path, rules=rules, pause_seconds=None, count=BOTH_WAYS))
    with upstream, both_ways(tmp_path, upstream.url) as server:
        upstream.wait_for(lambda: upstream.hearing() == 1, PATIENCE_SECONDS, "the stream does not open")
        upstream.pace(BOTH_WAYS_PAUSE_SECONDS)
        wait_until(lambda: newest_number(server.url, RUN) >= HEAD_START, PATIENCE_SECONDS, "nothing comes by stream")
        upstream.pace(None)
        ahead = upstream.newest + HEAD_START
        alike = {"started": upstream.plan.started, "count": BOTH_WAYS, "as_object": hook_objects}
        with Load(plan(server.url + PATH, RUN, tmp_path, **alike)) as load:
            load.wait_for(lambda progress: progress.acknowledged > ahead, PATIENCE_SECONDS, "no load")
            upstream.pace(BOTH_WAYS_PAUSE_SECONDS)
            report, _ = load.finish(PATIENCE_SECONDS)
        assert report.answers == {"204": BOTH_WAYS}
        wait_until(lambda: duplicates(server.url).total() >= BOTH_WAYS, PATIENCE_SECONDS, "not every copy was counted")
        assert duplicates(server.url) == {"overlap": BOTH_WAYS, "redelivery": 0, "redundant": 0, "resend": 0}
        assert verify_metrics(server.url)["stored"] == BOTH_WAYS
        events = list(pages(server.url, "events"))
        assert len(events) == BOTH_WAYS
        assert {event["mode"] for event in events} == {"webhook", "sse"}, "they did not come at once"
        for event in events[:: BOTH_WAYS // SIGHTED]:
            assert sighted(server.url, event["id"]) == ["sse", "webhook"]


def both_ways(folder: Path, stream: str) -> Server:
    """A server whose one source takes events by webhook and by stream."""
    return stream_server(f"sqlite:///{folder / 'headrace.db'}", folder, stream, mode='["webhook", "sse"]')


def sighted(base_url: str, id_: str) -> list[str]:
    """The modes by which an event came."""
    event = get_json(f"{base_url}/api/v1/events/{id_}")
    return sorted([event["mode"], *(sighting["mode"] for sighting in event["sightings"])])


def test_silence_is_noticed_in_time(tmp_path: Path) -> None:
    """A stream that falls silent is given up within idle_timeout + 1 s, and not before the timeout."""
    with store_of(SQLITE, tmp_path) as url, consuming(url, tmp_path, losses=GAPS) as scene:
        scene.begin()
        scene.settle()
        struck = scene.upstream.fault(Fault(kind="stall"))
        scene.settle(struck)
        stalled = next(entry for entry in scene.upstream.entries if isinstance(entry, Deaf) and entry.at >= struck)
        closed = next(entry for entry in scene.upstream.entries if of_connection(entry, stalled.connection))
        assert IDLE_SECONDS - KEEP_ALIVE_SECONDS <= closed.at - stalled.at <= IDLE_SECONDS + NOTICE_SECONDS


def of_connection(entry: Entry, connection: int) -> bool:
    """Whether it is the end of this connection."""
    return isinstance(entry, Closed) and entry.connection == connection


@pytest.mark.parametrize("away", [[1.0, 8.0], pytest.param([20.0, 40.0, 58.0], marks=pytest.mark.chaos)])
def test_the_return_of_upstream_is_noticed_in_time(away: Sequence[float], tmp_path: Path) -> None:
    """Where it was away for less than a minute, a stream is open again within 6 s.

    A stream that does not live for 10 s in between would make one long outage of several.
    """
    with store_of(SQLITE, tmp_path) as url, consuming(url, tmp_path, losses=GAPS) as scene:
        scene.begin()
        for seconds in away:
            scene.settle()
            pause(PROVEN_SECONDS)
            struck = scene.upstream.fault(Fault(kind="refuse", seconds=seconds))
            scene.settle(struck)
            entries = [entry for entry in scene.upstream.entries if entry.at >= struck]
            returned = next(entry.at for entry in entries if isinstance(entry, Listening) and entry.listens)
            heard = next(entry.at for entry in entries if isinstance(entry, Hears))
            assert heard - returned <= RETURN_SECONDS
