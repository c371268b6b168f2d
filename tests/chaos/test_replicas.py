"""Two and three replicas behind nginx and HAProxy under all that may happen to them, by seeds."""

from __future__ import annotations

import random
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.numbered import Numbered
from tests.support.replica_scene import ACTS, SECRET, ReplicaScene, play, replicas
from tests.support.server import Server

pytestmark = pytest.mark.chaos


@pytest.mark.parametrize("seed", range(10))
def test_nothing_is_missed_by_replicas(seed: int, tmp_path: Path) -> None:
    """Nothing acknowledged is missing, nothing twice, each event reaches the handler; where one listened is no gap."""
    acts = list(ACTS)
    random.Random(seed).shuffle(acts)
    balancer = ("nginx", "haproxy")[seed // 2 % 2]
    with replicas(tmp_path, 2 + seed % 2, balancer, pooler=seed // 4 % 2 == 1) as scene:
        play(scene, acts, seed)
        scene.settle()
        scene.judge()


def test_a_single_stream_moves_without_a_gap(tmp_path: Path) -> None:
    """Whoever listens is stopped, again and again: the next one listens before it leaves."""
    with replicas(tmp_path, streams=1) as scene:
        play(scene, ["roll", "roll"], seed=1)
        scene.settle()
        scene.judge()


def test_who_freezes_in_a_commit_holds_the_others_up_for_three_seconds(tmp_path: Path) -> None:
    """The database cuts it off, and lets the next one have the head; what was frozen commits nothing afterwards."""
    with replicas(tmp_path) as scene:
        other, frozen = scene.servers  # the oracle posts to the last one
        scene.settle()
        with frozen_in_commit(scene, frozen):
            began = time.monotonic()
            scene.wait(lambda: post(other) == 204, "no request is acknowledged")
            assert time.monotonic() - began < 3.0
        scene.settle()
        scene.judge()


@contextmanager
def frozen_in_commit(scene: ReplicaScene, server: Server) -> Iterator[None]:
    """A server that is stopped while it has the head locked; tried until that is so."""
    locks = """SELECT a.pid FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE l.relation = 'head'::regclass
        AND l.mode = 'RowExclusiveLock' AND a.state = 'idle in transaction'"""
    try:
        for _ in range(400):
            server.signal_all(signal.SIGSTOP)
            if (found := scene.query(locks)) and scene.query(locks) == found:
                yield
                return
            server.signal_all(signal.SIGCONT)
        raise AssertionError("it was never caught in a commit")
    finally:
        server.signal_all(signal.SIGCONT)


def post(server: Server) -> int:
    """Post one event; the status."""
    headers = {"X-Particle-Key": SECRET, "Content-Type": "application/json"}
    body = Numbered("fresh", datetime.now(UTC)).body(1)  # the run that the oracle's judge knows
    asked = urllib.request.Request(f"{server.url}/ingest/fleet", body, headers)
    try:
        with urllib.request.urlopen(asked, timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
