"""What `pip install .` installs is whole: migrations and page assets travel inside the wheel."""

from __future__ import annotations

import subprocess
import sys
import urllib.request
import zipfile
from pathlib import Path

from tests.support.server import Server

CHECKOUT = Path(__file__).resolve().parents[2]


def test_the_installed_package_runs_outside_of_the_checkout(tmp_path: Path) -> None:
    """Unpacked far from the checkout, the wheel makes its database, stores an event and serves its page."""
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--wheel-dir", str(tmp_path), str(CHECKOUT)]
    subprocess.run(build, check=True, capture_output=True)
    with zipfile.ZipFile(next(tmp_path.glob("headrace-*.whl"))) as wheel:
        wheel.extractall(tmp_path / "installed")
    assert not (tmp_path / "installed" / "alembic").exists()  # it would shadow the library

    installed = {"PYTHONPATH": str(tmp_path / "installed"), "PYTHONSAFEPATH": "1"}
    with Server(tmp_path, "", environment=installed) as server:
        posted = urllib.request.Request(f"{server.url}/ingest/default", b'{"event":"a"}')
        assert urllib.request.urlopen(posted, timeout=10).status == 204
        assert b"Headrace" in urllib.request.urlopen(f"{server.url}/", timeout=10).read()
        assert urllib.request.urlopen(f"{server.url}/assets/dashboard.js", timeout=10).status == 200
    assert (tmp_path / "headrace.db").exists()
