"""Two and three replicas behind nginx and HAProxy under all that may happen to them, by seeds."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.support.replica_scene import ACTS, play, replicas

pytestmark = pytest.mark.chaos


@pytest.mark.parametrize("seed", range(10))
def test_nothing_is_missed_by_replicas(seed: int, tmp_path: Path) -> None:
    """Nothing acknowledged is missing, nothing twice, each event reaches the handler; where one listened is no gap."""
    acts = list(ACTS)
    random.Random(seed).shuffle(acts)
    with replicas(tmp_path, 2 + seed % 2, ("nginx", "haproxy")[seed // 2 % 2]) as scene:
        play(scene, acts, seed)
        scene.settle()
        scene.judge()
