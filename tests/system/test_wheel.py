"""What `pip install .` installs is whole: migrations and page assets travel inside the wheel."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
import zipfile
from pathlib import Path

from tests.support.server import PATIENCE_SECONDS, free_port, wait_until

CHECKOUT = Path(__file__).resolve().parents[2]


def test_the_installed_package_runs_outside_of_the_checkout(tmp_path: Path) -> None:
    """Unpacked far from the checkout, the wheel makes its database, stores an event and serves its page."""
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--wheel-dir", str(tmp_path), str(CHECKOUT)]
    subprocess.run(build, check=True, capture_output=True)
    with zipfile.ZipFile(next(tmp_path.glob("headrace-*.whl"))) as wheel:
        wheel.extractall(tmp_path / "installed")
    assert not (tmp_path / "installed" / "alembic").exists()  # it would shadow the library

    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "installed"), "PYTHONSAFEPATH": "1"}
    port = free_port()
    command = [sys.executable, "-m", "app.cli", "serve", "--port", str(port)]
    with (tmp_path / "server.log").open("wb") as log:
        server = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: _answers(f"{url}/readyz"), PATIENCE_SECONDS, (tmp_path / "server.log").read_text)
        posted = urllib.request.Request(f"{url}/ingest/default", b'{"event":"a"}')
        assert urllib.request.urlopen(posted, timeout=10).status == 204
        assert b"Headrace" in urllib.request.urlopen(f"{url}/", timeout=10).read()
        assert urllib.request.urlopen(f"{url}/assets/dashboard.js", timeout=10).status == 200
    finally:
        server.kill()
        server.wait()
    assert (tmp_path / "headrace.db").exists()


def _answers(url: str) -> bool:
    try:
        return bool(urllib.request.urlopen(url, timeout=2).status == 200)
    except OSError:
        return False
