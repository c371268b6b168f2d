"""The servers under measurement, each a process of its own that is gone when its block ends."""

from __future__ import annotations

import os
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
NOOP_HANDLER = """
[handlers.noop]
type = "python"
call = "noop:on_event"
from = "{origin}"
"""
_NOOP = "async def on_event(event):\n    pass\n"


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
def headrace(folder: Path, store: str, handler_from: str | None = None, checkout: Path = CHECKOUT) -> Iterator[Server]:
    """Serve a checkout's Headrace on a store.

    It has a no-op Python handler that begins at `handler_from`, or no handler where there is none.
    """
    folder.mkdir(exist_ok=True)
    (folder / "noop.py").write_text(_NOOP)
    handler = NOOP_HANDLER.format(origin=handler_from) if handler_from else ""
    server = Server(folder, CONFIG.format(url=store) + handler, environment=running(checkout))
    if not store.startswith("sqlite:"):
        server.migrate()
    with server:
        yield server


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
