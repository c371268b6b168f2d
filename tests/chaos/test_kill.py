"""`kill -9` at any moment loses nothing that was acknowledged, and stores nothing twice."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from tests.chaos.scene import POSTGRES, SQLITE, check, full_speed, only, redeliver, server_on, store_of
from tests.support.ledger import Fate
from tests.support.server import PATIENCE_SECONDS

MOST_BEFORE_THE_KILL = 12_000
LONGEST_LOAD_SECONDS = 3.0
QUICK = [(SQLITE, 1), (SQLITE, 2), (POSTGRES, 1)]
LONG = [*((SQLITE, seed) for seed in range(101, 126)), *((POSTGRES, seed) for seed in range(101, 111))]


@pytest.mark.parametrize(("store", "seed"), [*QUICK, *(pytest.param(*run, marks=pytest.mark.chaos) for run in LONG)])
def test_a_killed_server_keeps_its_word(store: str, seed: int, tmp_path: Path) -> None:
    """Killed under full load after a random number of acknowledgements, restarted, and everything is there once."""
    chance = random.Random(seed)
    victims = chance.randrange(1, MOST_BEFORE_THE_KILL)
    with store_of(store, tmp_path) as url, server_on(url, tmp_path) as server:
        with full_speed(server, tmp_path) as load:
            latest = time.monotonic() + LONGEST_LOAD_SECONDS
            load.wait_for(
                lambda progress: (
                    progress.acknowledged >= victims or (progress.acknowledged > 0 and time.monotonic() > latest)
                ),
                seconds=PATIENCE_SECONDS,
                failure="nothing was acknowledged",
            )
            server.kill()
            report, ledger = load.stop()
        only(report, "204")
        assert ledger.count(Fate.ACKNOWLEDGED) > 0
        server.start()
        redeliver(load, ledger, tmp_path, chance)
        check(server, url, {"load": ledger})
