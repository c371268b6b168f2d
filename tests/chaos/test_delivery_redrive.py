"""Thousands of dead letters go back to their handler by a command that is interrupted, while live events flow."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.chaos.scene import SQLITE, full_speed, server_on, store_of
from tests.support.deliveries.account import ask
from tests.support.deliveries.answers import Weather
from tests.support.deliveries.receiver import SECRET
from tests.support.deliveries.running import RunningReceiver
from tests.support.server import PATIENCE_SECONDS, Server, wait_until

MOST_LAG_SECONDS = 2.0
LIVE_PER_SECOND = 50
DEVICES = 1_000
RATE_PER_SECOND = 500
_HANDLER = """
[handlers.sink]
type = "http"
url = "{url}"
secrets = ["{secret}"]
concurrency = 64
"""
_DIE = (
    "INSERT INTO cursors (handler, position, epoch) SELECT 'sink', position, 0 FROM head",
    "INSERT INTO deliveries (handler, position, device, attempts, first_failed_at, error)"
    " SELECT 'sink', position, device, 3, received_at, 'it failed' FROM events",
)
_DEAD = "SELECT count(*) FROM deliveries WHERE handler = 'sink' AND due_at IS NULL"
_STORED = "SELECT position, id, received_at FROM events"


@pytest.mark.parametrize("letters", [1_200, pytest.param(50_000, marks=pytest.mark.chaos)])
def test_a_redrive_beside_live_events(letters: int, tmp_path: Path) -> None:
    """No live event waits for 2 s, though some are behind a letter of their device; nothing is delivered twice."""
    with (
        store_of(SQLITE, tmp_path) as url,
        RunningReceiver(tmp_path / "receiver", Weather(seed=1, faults=0)) as receiver,
    ):
        with server_on(url, tmp_path) as server:
            with full_speed(server, tmp_path, "old", count=letters, devices=DEVICES, batch=500, redeliver=0) as load:
                load.finish(PATIENCE_SECONDS)
            assert server.terminate() == 0
        *_, ((letters,),) = ask(url, *_DIE, _DEAD)  # whole batches were sent, so there are a few more
        handler = _HANDLER.format(url=receiver.url, secret=SECRET)
        live = {"rate": LIVE_PER_SECOND, "devices": DEVICES, "redeliver": 0}
        with server_on(url, tmp_path, handler) as server, full_speed(server, tmp_path, "live", **live) as load:
            load.wait_for(lambda progress: progress.acknowledged >= LIVE_PER_SECOND, PATIENCE_SECONDS, "no live events")
            began, patience = time.monotonic(), PATIENCE_SECONDS + letters / RATE_PER_SECOND
            for left in (letters * 9 // 10, letters // 2):
                with redrive(server) as command:
                    wait_until(lambda: dead(url) <= left, patience, "nothing is given back")  # noqa: B023
                    command.send_signal(signal.SIGINT)
            with redrive(server) as command:
                assert command.wait(patience) == 0
            wait_until(lambda: len(receiver.journal.deliveries()) >= letters, patience, "they do not come")
            took = time.monotonic() - began
            load.stop()
            stored = {id_: (position, at) for position, id_, at in ask(url, _STORED)[0]}
            wait_until(lambda: len(receiver.journal.deliveries()) >= len(stored), PATIENCE_SECONDS, "some are missing")
        deliveries = receiver.journal.deliveries()
    times = Counter(each.id for each in deliveries)
    assert not [each.fault for each in deliveries if each.fault]
    assert len(times) == len(stored)
    assert not [id_ for id_, count in times.items() if count > 1]
    lags = [each.at - at / 1e6 for each in deliveries for position, at in [stored[each.id.bytes]] if position > letters]
    print(f"\n{letters} letters beside {len(lags)} live events: lag {percentiles(lags)}; all in {took:.0f} s")
    assert max(lags) <= MOST_LAG_SECONDS


@contextmanager
def redrive(server: Server) -> Iterator[subprocess.Popen[bytes]]:
    """The command, at work; ended when the block is."""
    command = [
        sys.executable,
        "-m",
        "app.cli",
        "redrive",
        "sink",
        "--all",
        "--rate",
        f"{RATE_PER_SECOND}/s",
        "--config",
        str(server.config),
    ]
    process = subprocess.Popen(command, cwd=server.folder, env=server.environment)
    try:
        yield process
        process.wait(PATIENCE_SECONDS)
    finally:
        process.kill()
        process.wait()


def dead(url: str) -> int:
    """How many dead letters there are."""
    return int(ask(url, _DEAD)[0][0][0])


def percentiles(lags: Sequence[float]) -> str:
    """The middle and the end of them, in ms."""
    ordered = sorted(lags)
    return ", ".join(f"p{at:g} {ordered[int((len(ordered) - 1) * at / 100)] * 1000:.0f} ms" for at in (50, 99, 100))
