"""A subscription that is pulled for long, with stalls: neither memory nor threads grow."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from tests.chaos.pubsub_scene import Scene, pulling
from tests.chaos.scene import SQLITE
from tests.chaos.stream_scene import pause
from tests.support.emulator import session_emulator

MOST_AT_ONCE = 800
STALLS = (0.0, 0.1, 0.3, 1.0, 2.0)  # seconds
REMEMBERED = 20_000  # the feed keeps so many of the last events in memory
QUICK = (20.0, 3_000, 20)  # grows by what is remembered
LONG = (300.0, REMEMBERED + 5_000, 8)


@pytest.mark.parametrize(
    ("seconds", "warm_events", "most_grown_mib"), [QUICK, pytest.param(*LONG, marks=pytest.mark.chaos)]
)
def test_memory_and_threads_stay_as_they_are(
    seconds: float, warm_events: int, most_grown_mib: int, tmp_path: Path
) -> None:
    """Bursts of many sizes and stalls of many lengths leave the process as large as it was when it was warm."""
    chance = random.Random(1)
    with pulling(SQLITE, tmp_path, session_emulator().host) as scene:
        published = burst(scene, 0, warm_events)
        warm = status(scene.server.pid)
        seen = [warm]
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            published = burst(scene, published, published + chance.randrange(1, MOST_AT_ONCE))
            pause(chance.choice(STALLS))
            seen.append(status(scene.server.pid))
        most = {name: max(each[name] for each in seen) for name in warm}
        print(f"\n{published} messages in {seconds:.0f} s: warm {warm}, most {most}, last {seen[-1]}")
        assert most["Threads"] <= warm["Threads"]
        assert most["VmRSS"] - warm["VmRSS"] <= most_grown_mib * 1024
        scene.verify(published)


def burst(scene: Scene, first: int, end: int) -> int:
    """Publish these events, and see them stored and acknowledged; `end`."""
    scene.publish(range(first, end))
    scene.wait_stored(end)
    return end


def status(pid: int) -> dict[str, int]:
    """What the kernel says of a process: resident memory in KiB, and threads."""
    lines = (line.split() for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {words[0][:-1]: int(words[1]) for words in lines if words[0] in {"VmRSS:", "Threads:"}}
