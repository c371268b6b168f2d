"""Events go to a receiver that fails at random, from a server that is killed: each arrives, in order, or is dead."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.delivery_scene import Size, run
from tests.chaos.scene import POSTGRES, SQLITE

SHORT = Size(events=800, devices=80, rate=800, kills=1, storms=1)
LONG = Size(events=22_000, devices=220, rate=1_000, kills=4, storms=5)


@pytest.mark.parametrize(
    ("store", "seed", "size"),
    [
        (SQLITE, 1, SHORT),
        *(pytest.param((SQLITE, POSTGRES)[seed % 2], seed, LONG, marks=pytest.mark.chaos) for seed in range(101, 111)),
    ],
)
def test_every_event_arrives_or_is_a_dead_letter(store: str, seed: int, size: Size, tmp_path: Path) -> None:
    """The receiver answers in every way that a receiver can, and dies never; the server does, in between."""
    run(store, seed, size, tmp_path)
