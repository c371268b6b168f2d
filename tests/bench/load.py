"""Load at 64 connections, sent by another process: product hooks at full speed by wrk, all else by the driver."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

from tests.support.driver import Plan
from tests.support.ledger import Report
from tests.support.oracle import Load, plan

CONNECTIONS = 64
PATH = "/ingest/fleet"
SCRIPT = Path(__file__).with_name("product_hooks.lua")
_BATCH = 100
_DRIVER, _COUNTED_DRIVER = "tests.bench.hook_driver", "tests.bench.counted"


class _WrkResult(msgspec.Struct):
    requests: int
    microseconds: int
    refused: int
    cut: int


@dataclass(frozen=True, slots=True)
class Sent:
    """How many events were answered by 204, in how many seconds."""

    events: int
    seconds: float


class Loader:
    """Sends load; each run is of new events, none is a copy of another run's."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._runs = itertools.count()
        self._wrk = shutil.which("wrk")

    @property
    def name(self) -> str:
        """What sends the product hooks at full speed."""
        return "wrk" if self._wrk else "the bundled driver"

    def hooks(self, url: str, seconds: float) -> Sent:
        """Send product hooks as fast as they are answered. Raises AssertionError unless all answers are 204."""
        if self._wrk is None:
            report = self._send(Load(self._plan(url, seconds=seconds), _DRIVER))
            return Sent(report.answers["204"], report.seconds)
        length = f"{max(round(seconds), 1)}s"
        options = ["-t1", f"-c{CONNECTIONS}", f"-d{length}", "--timeout", "30s", "-s", str(SCRIPT)]
        command = [self._wrk, *options, url + PATH, "--", self._run(), str(int(time.time()))]
        done = subprocess.run(command, check=True, capture_output=True)
        result = msgspec.json.decode(done.stdout.splitlines()[-1], type=_WrkResult)
        assert not result.refused + result.cut, f"not every request to {url} got a 2xx: {result}"
        return Sent(result.requests, result.microseconds / 1e6)

    def hooks_at(self, url: str, per_second: float, seconds: float) -> Report:
        """Send product hooks at a steady rate. Raises AssertionError unless all answers are 204."""
        return self._send(Load(self._plan(url, seconds=seconds, rate=per_second), _DRIVER))

    def batches(self, url: str, seconds: float) -> Sent:
        """Send numbered events as NDJSON of 100, as fast as it is answered. Raises AssertionError like the others."""
        report = self.send(url, seconds=seconds, batch=_BATCH)
        return Sent(report.answers["204"] * _BATCH, report.seconds)

    def send(self, url: str, **rest: object) -> Report:
        """Send numbered events; `rest` are fields of Plan. Raises AssertionError unless all answers are 204."""
        return self._send(Load(self._plan(url, **rest)))

    def counted(self, url: str, **rest: object) -> Report:
        """Send events of devices that count (tests.bench.counted), like `send`."""
        return self._send(Load(self._plan(url, **rest), _COUNTED_DRIVER))

    def _send(self, load: Load) -> Report:
        with load:
            report, _ = load.finish(3600)
        assert set(report.answers) == {"204"}, f"not every request to {load.plan.url} got a 204: {report}"
        assert not report.cut
        return report

    def _plan(self, url: str, **rest: object) -> Plan:
        return plan(url + PATH, self._run(), self._folder, **({"connections": CONNECTIONS} | rest))

    def _run(self) -> str:
        return f"bench{next(self._runs):03d}"
