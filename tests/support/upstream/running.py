"""The test upstream's process, as a test holds it: told what to do, and read while it goes."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from tests.support.server import free_port, wait_until
from tests.support.upstream.journal import Deaf, Entry, Follower, Hears, Opened, Paced, Sent
from tests.support.upstream.process import Plan
from tests.support.upstream.rules import DispatchLimits, Fault
from tests.support.upstream.server import PATH

_STOP_SECONDS = 10.0


class RunningUpstream:
    """An upstream in a process of its own. Leaving the block ends it."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._follower = Follower(Path(plan.folder) / f"{plan.run}.journal")
        self._hearing: dict[int, float] = {}
        self._newest = -1
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.upstream", msgspec.json.encode(plan).decode()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).resolve().parents[3],
        )

    def __enter__(self) -> Self:
        """Return when it listens; a flood is prepared by then."""
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"listening\n", "the test upstream does not listen"
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        self._process.communicate()

    @property
    def url(self) -> str:
        """The address of the product's stream."""
        return f"http://127.0.0.1:{self.plan.port}{PATH}"

    @property
    def entries(self) -> list[Entry]:
        """Its journal so far."""
        self._catch_up()
        return self._follower.entries

    @property
    def newest(self) -> int:
        """The number of the last event that was published; -1 before the first."""
        self._catch_up()
        return self._newest

    @property
    def opened(self) -> list[int]:
        """The connections that asked for a stream so far."""
        return [entry.connection for entry in self.entries if isinstance(entry, Opened)]

    def hearing(self, after: float = 0.0) -> int:
        """How many connections are given events now, and began with that behind `after` (of `time.time()`)."""
        self._catch_up()
        return sum(since > after for since in self._hearing.values())

    def fault(self, fault: Fault) -> float:
        """Let something go wrong; returns when that was, by `time.time()`, or a little before."""
        at = time.time()
        self._command(fault)
        return at

    def pace(self, pause_seconds: tuple[float, float] | None) -> None:
        """Publish at another pace; None is not at all any more, from when this returns."""
        before = self._paced()
        self._command(DispatchLimits(pause_seconds=pause_seconds))
        self.wait_for(lambda: self._paced() > before, _STOP_SECONDS, "the pace does not change")

    def _paced(self) -> int:
        return sum(isinstance(entry, Paced) for entry in self.entries)

    def wait_for(self, condition: Callable[[], bool], seconds: float, failure: str) -> None:
        """Return as soon as the condition holds. Raises AssertionError after `seconds`, or if the process ended."""

        def met() -> bool:
            assert self._process.poll() is None, f"the test upstream ended with {self._process.returncode}"
            return condition()

        wait_until(met, seconds, lambda: f"{failure}; {self.hearing()} streams hear, newest is {self.newest}")

    def stop(self) -> list[Entry]:
        """End it; its whole journal."""
        self._process.terminate()
        code = self._process.wait(_STOP_SECONDS)
        assert code == 0, f"the test upstream failed with {code}"
        return self.entries

    def _command(self, command: Fault | DispatchLimits) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(command) + b"\n")
        self._process.stdin.flush()

    def _catch_up(self) -> None:
        for entry in self._follower.read():
            if isinstance(entry, Hears):
                self._hearing[entry.connection] = entry.at
            elif isinstance(entry, Deaf):
                self._hearing.pop(entry.connection, None)
            elif isinstance(entry, Sent):
                self._newest = max(self._newest, entry.number)


def upstream_plan(run: str, folder: Path, **rest: object) -> Plan:
    """A plan on a free port that starts now: `rest` are fields of Plan."""
    known = {"run": run, "folder": str(folder), "started": datetime.now(UTC), "port": free_port()}
    return msgspec.convert(known | rest, Plan)
