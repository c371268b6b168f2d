"""The servers under measurement, each a process of its own that is gone when its block ends."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.support.server import Server, free_port, wait_until

CHECKOUT = Path(__file__).resolve().parents[2]
CONFIG = """
[store]
url = "{url}"

[sources.fleet]
mode = "webhook"
"""
_HANDLER = """
[handlers.noop]
type = "python"
call = "marking_handler:on_event"
from = "{origin}"
"""
_HANDLER_FILE = Path(__file__).with_name("marking_handler.py")


class Served(Protocol):
    """A server that runs."""

    @property
    def url(self) -> str:
        """Return where it listens."""
        ...

    @property
    def pid(self) -> int:
        """Return the id of the process with the event loop."""
        ...


@dataclass(frozen=True, slots=True)
class Anchor:
    """One of tests.bench.anchors, running."""

    url: str
    pid: int


@contextmanager
def anchor(name: str, folder: Path) -> Iterator[Anchor]:
    """Serve one of tests.bench.anchors; what it writes is in the folder."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.anchors", name, str(port), str(folder)], cwd=CHECKOUT
    )
    try:
        wait_until(lambda: listens(port), 30, f"{name} does not listen")
        yield Anchor(f"http://127.0.0.1:{port}", process.pid)
    finally:
        process.kill()
        process.wait()


@contextmanager
def headrace(folder: Path, store: str, checkout: Path = CHECKOUT, handler: str = "") -> Iterator[Server]:
    """Serve a checkout's Headrace on a store; `handler` is the configuration of one."""
    server = Server(folder, CONFIG.format(url=store) + handler, environment=running(checkout))
    if not store.startswith("sqlite:"):
        server.migrate()
    with server:
        yield server


def marking_handler(folder: Path, origin: str, events: int) -> str:
    """Put marking_handler.py beside a configuration, for so many events; what configures it."""
    shutil.copy(_HANDLER_FILE, folder)
    (folder / "events").write_text(str(events))
    return _HANDLER.format(origin=origin)


def read_marks(folder: Path) -> list[tuple[float, float]]:
    """Return what the handler noted so far: seconds of the clock, and of a core that the process used."""
    path = folder / "marks"
    lines = path.read_text().splitlines() if path.exists() else []
    return [(float(at), float(used)) for at, used in map(str.split, lines)]


def running(checkout: Path) -> dict[str, str]:
    """Return what to add to the environment of a process that is to run the code of a checkout."""
    return {"PYTHONPATH": str(checkout)}


def require_checkout(checkout: Path) -> None:
    """Raise AssertionError unless the code of a checkout is what runs there, and not what is installed."""
    command = [sys.executable, "-c", "import app, ingest, storage; print(app.__path__[0])"]
    environment = os.environ | running(checkout)
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd="/", env=environment)
    found = Path(done.stdout.strip()).parent
    assert found == checkout, f"the code of {found} runs, not that of {checkout}"


def listens(port: int) -> bool:
    """Return whether somebody listens on a port of 127.0.0.1."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
