"""Requests per second of 300-byte single events at 64 connections, sent by another process: wrk or the bundled one."""

from __future__ import annotations

import itertools
import shutil
import subprocess
from pathlib import Path

import msgspec

from tests.support.ledger import Report
from tests.support.oracle import Load, plan

CONNECTIONS = 64
PATH = "/ingest/fleet"
_SCRIPT = Path(__file__).with_name("post.lua")


class _WrkResult(msgspec.Struct):
    requests: int
    microseconds: int
    refused: int
    cut: int
    p99: int


class Loader:
    """Sends load; each run is of new events, none is a copy of another run's."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._runs = itertools.count()
        self._wrk = shutil.which("wrk")

    @property
    def name(self) -> str:
        """What sends the single events."""
        return "wrk" if self._wrk else "the bundled driver"

    def single_rate(self, url: str, seconds: float) -> float:
        """Single events per second, as fast as they are answered. Raises AssertionError unless all answers are 204."""
        if self._wrk is None:
            return self.send(url, seconds=seconds).rate
        length = f"{max(round(seconds), 1)}s"
        options = ["-t1", f"-c{CONNECTIONS}", f"-d{length}", "--timeout", "30s", "-s", str(_SCRIPT)]
        command = [self._wrk, *options, url + PATH, "--", self._run()]
        done = subprocess.run(command, check=True, capture_output=True)
        result = msgspec.json.decode(done.stdout.splitlines()[-1], type=_WrkResult)
        assert not result.refused + result.cut, f"not every request to {url} got a 2xx: {result}"
        return result.requests / result.microseconds * 1e6

    def send(self, url: str, **rest: object) -> Report:
        """What the bundled driver saw; `rest` are fields of Plan. Raises AssertionError unless all answers are 204."""
        with self.start(url, **rest) as load:
            report, _ = load.finish(3600)
        assert set(report.answers) == {"204"}, f"not every request to {url} got a 204: {report}"
        assert not report.cut
        return report

    def start(self, url: str, **rest: object) -> Load:
        """The bundled driver, started."""
        return Load(plan(url + PATH, self._run(), self._folder, **({"connections": CONNECTIONS} | rest)))

    def _run(self) -> str:
        return f"bench{next(self._runs):03d}"
