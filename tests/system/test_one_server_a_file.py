"""A SQLite file has one server: a second one is refused, and nothing has to be tidied up after one that was killed."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from tests.support.server import Server


def headrace(server: Server, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command beside the server, with its configuration."""
    command, *rest = words
    return subprocess.run(
        [sys.executable, "-m", "app.cli", command, "--config", str(server.config), *rest],
        cwd=server.folder,
        env=server.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_second_server_is_refused_and_says_why(tmp_path: Path) -> None:
    """Exit 2 and one sentence, by whatever name it calls the file; commands read and migrate beside the first.

    The lock goes with a process that is killed.
    """
    alias = tmp_path / "alias.db"
    with Server(tmp_path, "") as server:
        alias.symlink_to(tmp_path / "headrace.db")
        other = {"HEADRACE_STORE__URL": f"sqlite:///{alias}"}
        for environment in ({}, other):
            server.environment |= environment
            second = headrace(server, "serve", "--port", "0")
            assert second.returncode == 2, second.stderr
            assert len(second.stderr.strip().splitlines()) == 1, second.stderr
            assert f"{tmp_path / 'headrace.db'} is served by a process already ({server.pid})" in second.stderr
        for command in ("events", "migrate"):
            done = headrace(server, command)
            assert done.returncode == 0, done.stderr
        server.kill()
        server.start()


def test_a_second_demo_is_refused(tmp_path: Path) -> None:
    """The demo locks its file too, whichever that is."""
    server = Server(tmp_path, "")
    server.config.unlink()
    with ExitStack() as held:
        for name in ("headrace.db.lock", "headrace-demo.db.lock"):
            fcntl.flock(held.enter_context(open(tmp_path / name, "w")), fcntl.LOCK_EX)
        done = subprocess.run(
            [sys.executable, "-m", "app.cli", "serve", "--demo", "--port", str(server.port)],
            cwd=tmp_path,
            env=server.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert done.returncode == 2, done.stderr
    assert "is served by a process already" in done.stderr
