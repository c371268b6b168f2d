"""PostgreSQL is gone for minutes, and the replica is killed meanwhile: with a spool no sender notices."""

from __future__ import annotations

import json
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.chaos.scene import PATH, POSTGRES, check, full_speed, only, server_on, store_of
from tests.support import database
from tests.support.ledger import Fate
from tests.support.numbered import number_of
from tests.support.oracle import Load, read_metrics, verify_metrics
from tests.support.postgres import own_server
from tests.support.server import PATIENCE_SECONDS, Server, wait_until
from tests.support.vendor import VendorPlan

LONG = pytest.mark.chaos


@contextmanager
def replica(folder: Path, *, spool: bool = True) -> Iterator[tuple[str, Server]]:
    """A server on a PostgreSQL that can be stopped."""
    with store_of(POSTGRES, folder) as url:
        server = server_on(url, folder)
        if spool:
            server.config.write_text(server.config.read_text().replace("[store]", '[store]\nspool = "spool.db"', 1))
        with server:
            yield url, server


def waiting(server: Server) -> float:
    """How many records are in the spool."""
    return dict(read_metrics(server.url))["headrace_spool_events"]


def until_drained(server: Server) -> None:
    """Return when nothing is in the spool."""
    wait_until(lambda: waiting(server) == 0, PATIENCE_SECONDS, "the spool is not drained", every=0.1)


def until_more(load: Load) -> None:
    """Return when some hundred events more are acknowledged."""
    enough = load.progress.acknowledged + 500
    load.wait_for(lambda progress: progress.acknowledged > enough, PATIENCE_SECONDS, "nothing is taken")


def readyz(server: Server) -> dict[str, object]:
    """What /readyz says; it has to be 200."""
    with urllib.request.urlopen(f"{server.url}/readyz", timeout=20) as answer:
        return dict(json.load(answer))


def assert_in_order(url: str, devices: int) -> None:
    """Each device's events lie in the order in which they were acknowledged."""
    numbers: defaultdict[int, list[int]] = defaultdict(list)
    for row in database.read(url).rows:
        if (known := number_of(row.data)) is not None and known[0] == "load":
            numbers[known[1] % devices].append(known[1])
    assert all(of_device == sorted(of_device) for of_device in numbers.values())


@pytest.mark.parametrize("kills", [0, 1, pytest.param(12, marks=LONG)])
def test_an_outage_is_bridged(kills: int, tmp_path: Path) -> None:
    """Every answer is 204 while the database is away and the replica is killed; all is there once and in order."""
    with replica(tmp_path) as (url, server):
        with full_speed(server, tmp_path, redeliver=0.0, connections=16, rate=1500) as load:
            load.wait_for(lambda progress: progress.acknowledged > 500, PATIENCE_SECONDS, "no load")
            with own_server().outage():
                for number in range(kills + 1):
                    until_more(load)
                    assert waiting(server) > 0
                    if number < kills:
                        server.kill()
                        server.start()
                assert readyz(server)["spool"]
            if kills:  # in the middle of draining, too
                server.kill()
                server.start()
            until_more(load)
            report, ledger = load.stop()
        only(report, "204")
        assert kills or not report.cut
        until_drained(server)
        assert verify_metrics(server.url)["in_flight"] == 0
        assert_in_order(url, load.plan.devices)
        check(server, url, {"load": ledger})


@pytest.mark.parametrize(
    ("spool", "hurry", "seconds"),
    [
        (True, 60.0, 2.0),
        (False, 60.0, 2.0),
        pytest.param(True, 1.0, 600.0, marks=LONG),
        pytest.param(False, 1.0, 600.0, marks=LONG),
    ],
)
def test_the_vendor_skips_nobody(spool: bool, hurry: float, seconds: float, tmp_path: Path) -> None:
    """With a spool the vendor's events are all there; without, what was skipped shows as never acknowledged."""
    with replica(tmp_path, spool=spool) as (url, server):
        plan = VendorPlan(
            url=server.url + PATH, run="load", folder=str(tmp_path), started=datetime.now(UTC),
            rate=min(200.0, 20 * hurry), hurry=hurry, count=int(min(200.0, 20 * hurry) * (seconds + 2)),
        )  # fmt: skip
        with Load(plan, "tests.support.vendor") as load:
            load.wait_for(lambda progress: progress.acknowledged > 50, PATIENCE_SECONDS, "no load")
            with own_server().outage():
                since = time.monotonic()
                if spool and hurry == 1.0:  # in less time than the vendor's retries
                    wait_until(lambda: time.monotonic() > since + seconds / 2, seconds, "time stands still")
                    server.kill()
                    server.start()
                wait_until(lambda: time.monotonic() > since + seconds, seconds + 1, "time stands still")
            report, ledger = load.finish(seconds + 180)
        lost = plan.count - ledger.count(Fate.ACKNOWLEDGED)
        if spool:
            assert set(report.answers) <= {"204", "failed"}, report
            assert lost == 0
            until_drained(server)
        else:
            assert lost > 0
            assert report.answers["503"] > 0
        check(server, url, {"load": ledger})
        verify_metrics(server.url)
