"""docs/delivery.md is followed to the letter: its configuration, its receivers, its test, its SQL.

The receiver in Go is only read here: its package needs Go 1.21 and the Go proxy, which not every machine has. It was
compiled, and passed these tests, by hand.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.documents import CHECKOUT, block
from tests.support.proxies import listens
from tests.support.required import missing
from tests.support.server import PATIENCE_SECONDS, Server, free_port, wait_until
from tests.support.tls import make_certificate

PAGE = "docs/delivery.md"
SECRET = "whsec_aHVzaC1odXNoLTAxMjM0NTY3"
CONFIG = """
[handlers.alerts]
type = "http"
url = "http://127.0.0.1:{port}/alerts"
secrets = ["{secret}"]
format = "{format}"
from = "beginning"
retry = {{ base = "10ms", cap = "50ms" }}
"""
EVENT = b'{"event":"alarm/door","data":"{\\"open\\":true}","coreid":"d1","published_at":"2026-07-28T16:53:05.616Z"}'


def environment(**more: str) -> dict[str, str]:
    """Ours, with the checkout and what the examples expect."""
    return {**os.environ, "PYTHONPATH": str(CHECKOUT), "ALERTS_SECRET": SECRET, **more}


def python_receiver(folder: Path) -> list[str]:
    """The command that runs the receiver in Python."""
    (folder / "receiver.py").write_text(block(PAGE, "python", "# receiver.py"))
    return [sys.executable, "receiver.py"]


def node_receiver(folder: Path) -> list[str]:
    """The command that runs the receiver in Node, with its package from the registry."""
    if shutil.which("node") is None or (npm := shutil.which("npm")) is None:
        missing("node and npm are missing")
    (folder / "receiver.mjs").write_text(block(PAGE, "js", "// receiver.mjs"))
    installing = [npm, "install", "--no-audit", "--no-fund", "--no-update-notifier", "standardwebhooks@1"]
    done = subprocess.run(installing, cwd=folder, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode != 0:
        missing(f"npm cannot install standardwebhooks: {done.stderr[-500:]}")
    return ["node", "receiver.mjs"]


@contextmanager
def running(folder: Path, command: list[str]) -> Iterator[tuple[int, Path]]:
    """A receiver of the page on a free port instead of 9000: the port, and what it has written."""
    port = free_port()
    for source in folder.glob("receiver.*"):
        assert "9000" in source.read_text()
        source.write_text(source.read_text().replace("9000", str(port)))
    written = folder / "receiver.log"
    with written.open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, env=environment(), stdout=output, stderr=output)
    try:
        wait_until(lambda: listens(port), PATIENCE_SECONDS, lambda: f"it does not listen: {written.read_text()}")
        yield port, written
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("make", [python_receiver, node_receiver])
def test_a_receiver_takes_what_is_signed_and_nothing_else(tmp_path: Path, make: Callable[[Path], list[str]]) -> None:
    """The event that was posted arrives with its id, type and data; a request without our signature is a 401."""
    with running(tmp_path, make(tmp_path)) as (port, written):
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/alerts", EVENT, timeout=10)
        assert "alarm" not in written.read_text()

        with Server(tmp_path, CONFIG.format(port=port, secret=SECRET, format="cloudevents")) as server:
            assert urllib.request.urlopen(f"{server.url}/ingest/default", EVENT, timeout=10).status == 204
            with urllib.request.urlopen(f"{server.url}/api/v1/events", timeout=10) as answer:
                (event,) = json.load(answer)["events"]
            line = re.compile(rf"^{event['id']} alarm/door .*open.*[Tt]rue", re.MULTILINE)
            wait_until(lambda: line.search(written.read_text()) is not None, PATIENCE_SECONDS, written.read_text)
            wait_until(lambda: delivered(server) == 1, PATIENCE_SECONDS, "it was not answered 2xx")


def delivered(server: Server) -> float:
    """How many deliveries were answered 2xx."""
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=10) as answer:
        found = re.search(
            r'headrace_handler_deliveries_total\{handler="alerts",outcome="delivered"\} (\S+)', answer.read().decode()
        )
    assert found is not None
    return float(found[1])


@pytest.mark.parametrize("page", [PAGE, "README.md"])
def test_the_documented_handler_is_a_valid_configuration(tmp_path: Path, page: str) -> None:
    """`headrace check` takes it, with certificates where it says that they are."""
    certificate, key = make_certificate(tmp_path)
    shutil.copy(certificate, tmp_path / "ca.pem")
    shutil.move(certificate, tmp_path / "client.pem")
    shutil.move(key, tmp_path / "client.key")
    (tmp_path / "headrace.toml").write_text(block(page, "toml", "[handlers.alerts]"))
    command = [sys.executable, "-m", "app.cli", "check"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(ALERTS_TOKEN="t"), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "alerts" in done.stdout


def test_the_handler_of_the_readme_is_tested_with_plain_pytest(tmp_path: Path) -> None:
    """The page's test passes on the README's handler, and fails on one that prints nothing."""
    (tmp_path / "test_fleet_rules.py").write_text(block(PAGE, "python", "# test_fleet_rules.py"))
    handler = block("README.md", "python", "async def on_event")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_fleet_rules.py"]
    (tmp_path / "fleet_rules.py").write_text(handler)
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)
    assert "2 passed" in done.stdout, done.stdout

    (tmp_path / "fleet_rules.py").write_text(re.sub(r"print\(.*\)", "pass", handler))
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)
    assert "1 failed, 1 passed" in done.stdout, done.stdout


def test_the_documented_sql_makes_it_once() -> None:
    """However often an event is handled its litres are added once, and a rolled back attempt counts for nothing."""
    create, insert, update = block(PAGE, "sql", "handled").splitlines()
    database = sqlite3.connect(":memory:", isolation_level=None)
    database.execute("CREATE TABLE meters (device TEXT, litres INTEGER)")
    database.execute("INSERT INTO meters VALUES ('d1', 0)")

    def handle(event_id: str, *, crashes: bool = False) -> None:
        database.execute("BEGIN")
        database.execute(create)
        if database.execute(insert, {"id": event_id}).fetchone() is not None:
            database.execute(update, {"litres": 5, "device": "d1"})
        database.execute("ROLLBACK" if crashes else "COMMIT")

    handle("a", crashes=True)
    for event_id in ("a", "a", "b", "a"):
        handle(event_id)
    assert database.execute("SELECT litres FROM meters").fetchone() == (10,)
    database.close()
