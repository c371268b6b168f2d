"""The moment by which a process that was told to stop is gone."""

from __future__ import annotations

import signal

import pytest

from app.stopping import exit_deadline


@pytest.mark.parametrize("drain_seconds", [0.0, 0.2, 5.0, 40.0, 86_400.0])
def test_the_process_is_gone_within_20_s_of_the_drain_delay(drain_seconds: float) -> None:
    """Contract: `serve` exits within drain_delay + 20 s of SIGTERM, and never before the delay; SIGINT skips it."""
    assert drain_seconds < exit_deadline(signal.SIGTERM, 0.0, drain_seconds) < drain_seconds + 20
    assert 0 < exit_deadline(signal.SIGINT, 0.0, drain_seconds) < 20
