"""A run of the tests leaves nothing behind, however it ends. Each is a run of its own here."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.support import run
from tests.support.server import PATIENCE_SECONDS, wait_until

CHECKOUT = Path(__file__).resolve().parents[2]
TESTS = """
import os, signal, subprocess, sys, time
from pathlib import Path
from tests.support.postgres import own_server, session_server

STARTED = Path(__file__).parent
PROGRAMS = []

def note(name, pid):
    (STARTED / f"{name}.started").write_text(str(pid))

def pid_of(server):
    return server.pid_file.read_text().split()[0]

def sleeper():
    PROGRAMS.append(subprocess.Popen(["sleep", "600"], start_new_session=True))
    return PROGRAMS[0].pid

def test_a_shared_server():
    note("shared", pid_of(session_server()))

def test_a_server_that_was_away():
    server = own_server()
    with server.outage():
        pass
    note("own", pid_of(server))
"""
LEAVES = """
def test_that_leaves_a_program_running():
    note("left", sleeper())
"""
HANGS = """
def test_that_hangs():
    note("child", sleeper())
    while len(list(STARTED.glob("*.started"))) < 3:
        time.sleep(0.01)
    note("hanging", os.getpid())
    time.sleep(600)
"""


def started(folder: Path) -> dict[str, int]:
    """The processes that the tests noted, by name."""
    return {note.stem: int(note.read_text() or 0) for note in folder.glob("*.started")}


@contextmanager
def a_run(folder: Path, tests: str, *options: str) -> Iterator[subprocess.Popen[str]]:
    """A run that is no part of ours; killed at the end of the block if it still goes on."""
    file = folder / "test_of_a_run.py"
    file.write_text(TESTS + tests)
    command = [sys.executable, "-m", "pytest", "-c", str(CHECKOUT / "pyproject.toml"), "-p", "tests.conftest", *options]
    environment = {name: value for name, value in os.environ.items() if name != run.MARK}
    with subprocess.Popen(
        [*command, str(file)],
        cwd=folder,
        env=environment | {"PYTHONPATH": str(CHECKOUT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as running:
        try:
            yield running
        finally:
            running.kill()


def alive(pids: Sequence[int]) -> list[int]:
    """Those that are running."""
    return [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE]


def test_what_a_test_leaves_running_is_ended_and_an_error(tmp_path: Path) -> None:
    """All tests pass, and the run fails: it names the program. Shared servers end without a word."""
    with a_run(tmp_path, LEAVES, "-n", "2") as running:
        said, _ = running.communicate(timeout=PATIENCE_SECONDS)
    found = started(tmp_path)
    assert set(found) == {"shared", "own", "left"}, said
    assert f"left running: {found['left']} sleep 600" in said
    assert said.splitlines()[-1].startswith("3 passed, 1 error in "), said
    assert alive(list(found.values())) == []


def test_a_run_that_is_interrupted_ends_what_it_started(tmp_path: Path) -> None:
    """Ctrl-C in the middle of a test: its program, its worker and the servers are gone when the run is."""
    with a_run(tmp_path, HANGS, "-n", "2") as running:
        wait_until(lambda: "hanging" in started(tmp_path), PATIENCE_SECONDS, lambda: f"only {started(tmp_path)} began")
        running.send_signal(signal.SIGINT)
        said, _ = running.communicate(timeout=PATIENCE_SECONDS)
    assert running.returncode != 0, said
    assert set(started(tmp_path)) == {"shared", "own", "child", "hanging"}
    assert alive(list(started(tmp_path).values())) == [], said
