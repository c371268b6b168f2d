"""A full disk is the senders' 503, not an outage: when space is freed the same process goes on."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.chaos.scene import PATH, full_speed, only, server_on
from tests.support.oracle import verify, verify_flow, verify_metrics
from tests.support.required import missing
from tests.support.server import PATIENCE_SECONDS

DISK_BYTES = 32 << 20
BALLAST_BYTES = 16 << 20
_INSIDE = "CHAOS_OWN_NAMESPACE"


def test_a_full_disk_defers_and_recovers(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """503 while the file system is full; 204 again as soon as it is not; nothing acknowledged is lost."""
    if not can_mount(tmp_path):
        run_in_own_namespace(request.node.nodeid)
        return
    with small_disk(tmp_path / "disk") as disk:
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(BALLAST_BYTES))
        url = f"sqlite:///{disk / 'headrace.db'}"
        with server_on(url, tmp_path) as server:
            pid = server.pid
            with full_speed(server, tmp_path) as load:
                load.wait_for(lambda progress: progress.deferred > 100, PATIENCE_SECONDS, "the disk did not fill")
                ballast.unlink()
                full = load.progress.acknowledged
                load.wait_for(
                    lambda progress: progress.acknowledged > full + 500, PATIENCE_SECONDS, "it does not recover"
                )
                report, ledger = load.stop()
            only(report, "204", "503")
            assert not report.cut
            assert server.pid == pid
            verify_metrics(server.url)
            verify(url, {"load": ledger})
            verify_flow(server.url, PATH)


@contextmanager
def small_disk(at: Path) -> Iterator[Path]:
    """A file system of DISK_BYTES in memory."""
    at.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(at)], check=True)
    try:
        yield at
    finally:
        subprocess.run(["umount", "--lazy", str(at)], check=True)


def can_mount(folder: Path) -> bool:
    """Whether this process may mount file systems."""
    try:
        with small_disk(folder / "probe"):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


def run_in_own_namespace(node: str) -> None:
    """Run this test once more as the root of a user namespace, where mounting is allowed without being root."""
    if os.environ.get(_INSIDE):
        missing("no file system can be mounted, not even in a user namespace")
    command = ["unshare", "--map-root-user", "--mount", sys.executable, "-m", "pytest", "-p", "no:cacheprovider", node]
    try:
        subprocess.run(["unshare", "--map-root-user", "--mount", "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        missing(f"no file system can be mounted, and no user namespace made: {error}")
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=os.environ | {_INSIDE: "1"})
    assert done.returncode == 0, done.stdout + done.stderr
