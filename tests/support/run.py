"""One run of the tests: the servers that its processes share, and the end of everything that it started.

The process that begins the run puts a mark into its environment. Every program that it or a worker starts inherits the
mark, so what is still alive at the end is found, whatever became of the process that started it.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
import psutil
from filelock import FileLock

MARK = "TESTS_RUN_FOLDER"
_END_SECONDS = 5.0


class Shared(msgspec.Struct, frozen=True):
    """A server that runs: how to reach it, where its process id is, and the signal that ends it."""

    address: str
    pid_file: str
    signal: int = signal.SIGKILL


def folder() -> Path:
    """Return the folder of this run. Outside of pytest the run begins with the first call and ends with the process."""
    begin()
    return Path(os.environ[MARK])


def begin() -> bool:
    """Begin a run in this process, and return True; or return False where this process is part of one."""
    if MARK in os.environ:
        return False
    os.environ[MARK] = tempfile.mkdtemp(prefix="headrace-")
    atexit.register(end)
    return True


def end() -> Sequence[str]:
    """End the shared servers and remove the folder. Return what else was left running (pid, command): it is killed."""
    if MARK not in os.environ:
        return []
    at = os.environ.pop(MARK)
    alive = {process.pid: process for process in _marked(at)}
    for about in Path(at).glob("*.json"):
        shared = msgspec.json.decode(about.read_bytes(), type=Shared)
        if server := alive.get(_pid_in(shared.pid_file)):
            _end_server(server, shared.signal)
    _, left = psutil.wait_procs(_marked(at), timeout=_END_SECONDS)  # what a killed server left ends by itself
    told = [_described(process) for process in left]
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, timeout=_END_SECONDS)
    shutil.rmtree(at, ignore_errors=True)
    return told


def share(name: str, start: Callable[[], Shared]) -> Shared:
    """Return the run's server of this name. The first that asks starts it, while the others wait."""
    about = folder() / f"{name}.json"
    with FileLock(folder() / f"{name}.lock"):
        if not about.exists():
            about.write_bytes(msgspec.json.encode(start()))
    return msgspec.json.decode(about.read_bytes(), type=Shared)


def _pid_in(file: str) -> int:
    try:
        return int(Path(file).read_text().split()[0])
    except (OSError, ValueError, IndexError):  # it was stopped
        return 0


def _end_server(server: psutil.Process, number: int) -> None:
    with suppress(psutil.NoSuchProcess):
        server.send_signal(number)
        server.wait(_END_SECONDS)


def _marked(mark: str) -> Sequence[psutil.Process]:
    """The processes of the run, apart from this one."""
    return [process for process in psutil.process_iter() if process.pid != os.getpid() and _mark_of(process) == mark]


def _mark_of(process: psutil.Process) -> str | None:
    try:
        mark: str | None = process.environ().get(MARK)
    except (psutil.Error, OSError):  # it is gone, or another user's
        return None
    return mark


def _described(process: psutil.Process) -> str:
    try:
        return f"{process.pid} {' '.join(process.cmdline())}"
    except psutil.Error:
        return str(process.pid)
