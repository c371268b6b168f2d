"""A receiver that runs: a process of its own, and its journal, which can be followed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from tests.support.deliveries.answers import Weather
from tests.support.deliveries.journal import Reader
from tests.support.deliveries.receiver import CERTIFICATE, NAME, Plan

_CHECKOUT = Path(__file__).resolve().parents[3]


class RunningReceiver:
    """The module `receiver`. Leaving the block ends it."""

    def __init__(self, folder: Path, weather: Weather, *, tls: bool = False) -> None:
        folder.mkdir()
        self.journal = Reader(folder / NAME)
        self.certificate = folder / CERTIFICATE
        self._scheme = "https" if tls else "http"
        plan = msgspec.json.encode(Plan(folder=str(folder), weather=weather, tls=tls)).decode()
        command = [sys.executable, "-m", "tests.support.deliveries.receiver", plan]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=_CHECKOUT)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    @property
    def url(self) -> str:
        """Return where it takes events."""
        return f"{self._scheme}://127.0.0.1:{self.port}/events"

    @property
    def pid(self) -> int:
        """Return the id of its process."""
        return self._process.pid
