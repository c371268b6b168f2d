"""The servers under measurement, each a process of its own that is gone when its block ends."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.server import Server, free_port, wait_until

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
_CHECKOUT = Path(__file__).resolve().parents[2]


@contextmanager
def anchor(name: str, folder: Path) -> Iterator[str]:
    """The URL of one of tests.bench.anchors."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.anchors", name, str(port), str(folder)], cwd=_CHECKOUT
    )
    try:
        wait_until(lambda: _listens(port), 30, f"{name} does not listen")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


@contextmanager
def headrace(folder: Path, store: str, handler_from: str | None = None) -> Iterator[Server]:
    """Headrace on a store, with a no-op Python handler that begins at `handler_from`, or without any handler."""
    folder.mkdir(exist_ok=True)
    (folder / "noop.py").write_text(_NOOP)
    handler = NOOP_HANDLER.format(origin=handler_from) if handler_from else ""
    server = Server(folder, CONFIG.format(url=store) + handler)
    if not store.startswith("sqlite:"):
        server.migrate()
    with server:
        yield server


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
