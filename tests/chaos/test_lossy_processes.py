"""A lossy fleet by each mode and pair of modes into a server that is killed and cut off: what it calls lost, recovered
and a duplicate is what became of the messages, seed by seed.

HEADRACE_LOSSY_PROCESSES says how many seeds; 50 in `make chaos`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random

import pytest

from tests.chaos.lossy_scene import GRACE_SECONDS, Metrics, Scene, lossy
from tests.chaos.scene import POSTGRES, SQLITE
from tests.support.losses import GAPS
from tests.support.oracle import get_json, verify_balance
from tests.support.sequences.fleet_by_ways import CHAPTERS, a_fleet
from tests.support.sequences.fleet_truth import accounts, duplicates, raw, storage_faults
from tests.support.sequences.reference import Account

WAYS = (["webhook", "sse"], ["pubsub"], ["sse"], ["sse", "pubsub"], ["webhook"], ["webhook", "pubsub"])
FEW = 3  # each mode is among them
MANY = int(os.environ.get("HEADRACE_LOSSY_PROCESSES", "50"))
SEEDS = [*range(FEW), *(pytest.param(seed, marks=pytest.mark.chaos) for seed in range(FEW, MANY))]
LOSSES = (*GAPS, "headrace_events_lost", "headrace_events_missing", "headrace_events_ambiguous", "headrace_missed_by")
NOTHING = Account(set(), set(), {"missing": set(), "lost": set()})


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_lost_is_the_truth(seed: int, tmp_path: Path) -> None:
    """Drops by each way, duplicates, other orders, restarts, wraps, cuts and kills; see `faults`."""
    random, ways = Random(seed), WAYS[seed % len(WAYS)]
    fleet = a_fleet(random, ways, by_epoch=(seed + seed // len(WAYS)) % 2 == 0)
    with lossy(POSTGRES if seed % 5 == 4 else SQLITE, fleet, ways, random, tmp_path, LOSSES) as scene:
        scene.play(0, random.choice([Scene.cut, None]))
        if random.random() < 0.5:
            scene.wait_told()
        scene.play(1, Scene.kill)
        scene.wait_told()
        told = scene.metrics(), len(scene.stored())
        scene.play(2, random.choice([Scene.cut, None]))
        scene.wait_told()
        found = [*storage_faults(fleet, scene.stored(), scene.arrivals()), *faults(scene, *told)]
        assert not found, "\n".join([f"seed {seed}, {fleet.counting}", *found])
        verify_balance(scene.store)


def test_of_a_healthy_fleet_nothing_is_lost(tmp_path: Path) -> None:
    """Devices send much again, stamped anew, and all comes both ways: no number was ever missing."""
    random, ways = Random(1), ["webhook", "sse"]
    fleet = a_fleet(random, ways, by_epoch=False, healthy=True)
    late = ["headrace_missed_by"]  # a busy machine may bring by one way what the other one brought before the grace
    with lossy(SQLITE, fleet, ways, random, tmp_path, late) as scene:
        for chapter in range(CHAPTERS):
            scene.play(chapter)
        found = [*storage_faults(fleet, scene.stored(), scene.arrivals()), *_kinds(scene)]
        assert not found, "\n".join(found)
        assert set(scene.metrics().values()) == {0.0}
        assert get_json(f"{scene.server.url}/api/v1/losses")["losses"] == []
        verify_balance(scene.store)


def faults(scene: Scene, before: Metrics, position: int) -> Iterator[str]:
    """Yield each number of a device that the server does not tell as it is, and each duplicate of another kind.

    `before` are the metrics at a position at which nothing was missing; the process has not been killed since.
    """
    fleet, stored = scene.fleet, scene.stored()
    truth, then = accounts(fleet, stored, GRACE_SECONDS), accounts(fleet, stored[:position], GRACE_SECONDS)
    for device, account in truth.items():
        yield from _numbers(scene, device, account)
    if truth.keys() <= fleet.certain:
        yield from _metrics(scene, before, then, truth)
    if fleet.counting.by_epoch and scene.metrics()["ambiguous_total"]:
        yield f"ambiguous, where epochs tell: {scene.metrics()}"
    yield from _listed(scene)
    yield from _kinds(scene)


def _numbers(scene: Scene, device: str, account: Account) -> Iterator[str]:
    """Compare a device's numbers. Where not all can be told, what is lost is at least lost in truth."""
    lost = scene.numbers(device, "lost")
    if device not in scene.fleet.certain:  # a number that came after it was lost may be of another run
        ever = raw(scene.fleet, account.lost | account.recovered["lost"])
        if more := Counter(lost) - Counter(ever):
            yield f"{device}: not lost: {more}, but {ever}"
        return
    if lost != (truth := raw(scene.fleet, account.lost)):
        yield f"{device}: lost are {lost}, in truth {truth}"
    recovered = raw(scene.fleet, account.recovered["missing"] | account.recovered["lost"])
    if (found := scene.numbers(device, "recovered")) != recovered:
        yield f"{device}: recovered are {found}, in truth {recovered}"


def _metrics(scene: Scene, before: Metrics, then: Mapping[str, Account], truth: Mapping[str, Account]) -> Iterator[str]:
    """Compare what was counted since `then`."""
    owed: Counter[str] = Counter()
    for device, account in truth.items():
        known = then.get(device, NOTHING)
        owed["lost_total"] += len(account.lost | account.recovered["lost"]) - len(known.lost | known.recovered["lost"])
        for was in ("missing", "lost"):
            owed[f"recovered from {was}"] += len(account.recovered[was]) - len(known.recovered[was])
    counted = {name: value - before[name] for name, value in scene.metrics().items() if name != "ambiguous_total"}
    if counted != {**owed, "missing": 0}:
        yield f"the metrics count {counted}, in truth it is {dict(owed)}"


def _listed(scene: Scene) -> Iterator[str]:
    """Compare the balance, the devices and the command line with the losses that the API lists."""
    (balance,) = get_json(f"{scene.server.url}/api/v1/balance")["losses"]
    rows = get_json(f"{scene.server.url}/api/v1/losses?limit=1000")["losses"]
    states = Counter(row["state"] for row in rows)
    for state in ("missing", "lost", "recovered"):
        if balance[state] != states[state]:
            yield f"the balance has {balance[state]} {state}, but {states[state]} are listed"
    devices = get_json(f"{scene.server.url}/api/v1/devices?limit=1000")["devices"]
    if (missing := sum(device["missing"] for device in devices)) != states["lost"]:
        yield f"the devices miss {missing}, but {states['lost']} lost ones are listed"
    command = [sys.executable, "-m", "app.cli", "losses", "--json", "--limit", "1000", "--config"]
    done = subprocess.run(
        [*command, str(scene.server.config)],
        cwd=scene.server.folder,
        env=scene.server.environment,
        capture_output=True,
        check=True,
        timeout=60,
    )
    if json.loads(done.stdout)["losses"] != rows:
        yield "`headrace losses` says something else"


def _kinds(scene: Scene) -> Iterator[str]:
    """Compare how many duplicates of each kind came by each way."""
    sources = get_json(f"{scene.server.url}/api/v1/balance")["sources"]
    owed = duplicates(scene.fleet, scene.stored(), scene.arrivals())
    for source in sources:
        for kind, count in source["duplicate_kinds"].items():
            least, most = owed.get((source["mode"], kind), (0, 0))
            if not least <= count <= most:
                yield f"{count} of kind {kind} by {source['mode']}, in truth {least} to {most}"
