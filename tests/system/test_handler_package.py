"""A handler of an installed package, in a server that knows nothing of it. Imports nothing of the product."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.support.server import PATIENCE_SECONDS, Server, wait_until

CHECKOUT = Path(__file__).resolve().parents[2]
PACKAGE = CHECKOUT / "tests" / "support" / "append_package"
IMPORTABLE = {"PYTHONPATH": f"{CHECKOUT}{os.pathsep}{PACKAGE}"}
CONFIG = '[handlers.ids]\ntype = "append"\npath = "ids"\nfrom = "beginning"\nnames = ["alarm/"]\n'


def test_a_package_adds_a_handler(tmp_path: Path) -> None:
    """Its type is found by its entry point, and receives the stored events that its filters want."""
    with Server(tmp_path, CONFIG, environment=IMPORTABLE) as server:
        for name in ("alarm/fire", "status", "alarm/water"):
            body = json.dumps({"event": name, "coreid": "d1", "published_at": "2026-07-28T16:53:05.616Z"})
            request = urllib.request.Request(f"{server.url}/ingest/default", body.encode(), method="POST")
            with urllib.request.urlopen(request, timeout=10) as answer:
                assert answer.status == 204
        ids = tmp_path / "ids"
        wait_until(lambda: ids.exists() and len(ids.read_text().split()) == 2, PATIENCE_SECONDS, "not delivered")
        with urllib.request.urlopen(f"{server.url}/api/v1/events?name=alarm/", timeout=10) as answer:
            assert ids.read_text().split() == [event["id"] for event in json.load(answer)["events"]]


@pytest.mark.parametrize(
    ("config", "fault"),
    [
        (CONFIG.replace("path", "paht"), 'handlers.ids.path: required with type = "append"'),
        (CONFIG.replace('"ids"', '"absent/ids"'), "handlers.ids.path: expected a file in a folder that is there"),
        (CONFIG.replace('"append"', '"apend"'), "handlers.ids.type: expected 'http', 'log', 'python', 'append'"),
        (CONFIG + 'call = "m:f"\n', 'handlers.ids.call: does not go with type = "append"'),
    ],
)
def test_check_knows_the_keys_of_a_package(tmp_path: Path, config: str, fault: str) -> None:
    """A fault in its table is told as one in ours: with the full key, and exit code 2."""
    (tmp_path / "headrace.toml").write_text(config)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", "check"],
        cwd=tmp_path,
        env=environment | IMPORTABLE,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert fault in done.stderr
