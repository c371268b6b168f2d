"""A subscription that is pulled while processes die and stop: acknowledged is only what is committed, once."""

from __future__ import annotations

import random
from contextlib import nullcontext
from pathlib import Path

import pytest

from tests.chaos.pubsub_scene import Publishing, commits_waiting, number_in, numbers_in, pulling
from tests.chaos.scene import POSTGRES, SQLITE
from tests.support import database
from tests.support.emulator import session_emulator
from tests.support.pubsub_proxy import PubsubProxy, pubsub_proxy
from tests.support.server import PATIENCE_SECONDS, wait_until

RATE, BURST = 1000.0, 200  # published per second, and at once
MOST_BEFORE_A_KILL = 500
QUICK = [(SQLITE, 1, 3_000, 3)]
LONG = [(SQLITE if seed % 2 else POSTGRES, seed, 10_000, 6) for seed in range(101, 111)]


@pytest.mark.parametrize(
    ("store", "seed", "count", "kills"), [*QUICK, *(pytest.param(*run, marks=pytest.mark.chaos) for run in LONG)]
)
def test_a_killed_server_has_acknowledged_only_what_is_stored(
    store: str, seed: int, count: int, kills: int, tmp_path: Path
) -> None:
    """Each kill leaves all that was acknowledged in the store; in the end each event is there once, and none queued.

    At every other kill a commit is under way for as long as it takes until many more messages have come.
    """
    chance = random.Random(seed)
    emulator = session_emulator().host
    with pubsub_proxy(emulator) as proxy, pulling(store, tmp_path, emulator, through=proxy.host) as scene:
        left: list[database.Contents] = []
        for kill in range(kills):  # each has messages of its own: a slow start must not find them all gone
            numbers = range(count * kill // kills, count * (kill + 1) // kills)
            with Publishing(scene.queue, scene.messages(numbers), RATE, BURST) as publishing:
                acknowledge(proxy, len(proxy.acknowledged) + chance.randrange(1, MOST_BEFORE_A_KILL))
                with commits_waiting(scene.store) if kill % 2 == 0 else nullcontext():
                    deliver(proxy, chance.randrange(1, MOST_BEFORE_A_KILL))
                    scene.server.kill()
                left.append(scene.as_the_kill_left_it(tmp_path / f"kill{kill}"))
                wait_until(lambda: proxy.quiet, PATIENCE_SECONDS, "calls of the dead server do not end")
                early = acknowledged(proxy) - numbers_in(left[-1])
                assert not early, f"{len(early)} acknowledged, but not in the store: {sorted(early)[:5]}"
                scene.server.start()
                publishing.wait_done()
        settle_all(proxy, count)
        contents = scene.verify(count)
        for before in left:
            assert contents.rows[: len(before.rows)] == before.rows, "what was stored before a kill is another now"
        assert max(proxy.delivered.values()) > 1, "the kills cost no delivery: the run proves nothing"
        assert scene.server.terminate() == 0
        assert scene.queue.left(1.0) == 0


@pytest.mark.parametrize(("store", "streams"), [(POSTGRES, 2), pytest.param(SQLITE, 1, marks=pytest.mark.chaos)])
def test_a_stopped_server_has_acknowledged_all_that_is_stored(store: str, streams: int, tmp_path: Path) -> None:
    """SIGTERM under load: exit 0 within 25 s, and no event that was committed ever comes again."""
    count = 3_000
    emulator = session_emulator().host
    with (
        pubsub_proxy(emulator) as proxy,
        pulling(store, tmp_path, emulator, through=proxy.host, streams=streams) as scene,
    ):
        with Publishing(scene.queue, scene.messages(range(count)), RATE, BURST) as publishing:
            acknowledge(proxy, 500)
            assert scene.server.terminate() == 0, scene.server.log_tail()
            wait_until(lambda: proxy.quiet, PATIENCE_SECONDS, "calls of a server that is gone do not end")
            owed = numbers_in(database.read(scene.store)) - acknowledged(proxy)
            assert not owed, f"{len(owed)} stored, but not acknowledged: {sorted(owed)[:5]}"
            assert len(proxy.acknowledged) < publishing.published, "there was no load: the run proves nothing"
            scene.server.start()
            publishing.wait_done()
        settle_all(proxy, count)
        assert scene.verify(count).sightings == 0, "an event that was committed came again"


def acknowledged(proxy: PubsubProxy) -> set[int]:
    """The numbers of what was acknowledged."""
    return {number for id_ in proxy.acknowledged if (number := number_in(proxy.data[id_])) is not None}


def acknowledge(proxy: PubsubProxy, count: int) -> None:
    """Wait until so many events are acknowledged."""
    wait_until(
        lambda: len(proxy.acknowledged) >= count,
        PATIENCE_SECONDS,
        lambda: f"no load: {len(proxy.acknowledged)}",
        every=0.001,
    )


def deliver(proxy: PubsubProxy, count: int) -> None:
    """Wait until so many more messages have come."""
    wanted = proxy.delivered.total() + count
    wait_until(lambda: proxy.delivered.total() >= wanted, PATIENCE_SECONDS, "nothing is delivered", every=0.001)


def settle_all(proxy: PubsubProxy, count: int) -> None:
    """Wait until each event is acknowledged, and none is owed to anybody."""
    wait_until(
        lambda: len(proxy.acknowledged) == count and proxy.owed == 0,
        90,
        lambda: f"{len(proxy.acknowledged)} of {count} acknowledged, {proxy.owed} owed",
        every=0.1,
    )
