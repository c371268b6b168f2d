"""A server outgrows SQLite: its store is copied, the copy interrupted, and a server on PostgreSQL goes on with it."""

from __future__ import annotations

import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

from tests.support.oracle import get_json, verify_balance
from tests.support.postgres import fresh_database, session_server
from tests.support.server import PATIENCE_SECONDS, Server, wait_until

RULES = """
import pathlib
async def on_event(event):
    if event.name == "dead":
        from ingest import DeadLetter
        raise DeadLetter("as it is")
    if event.name == "later" and not pathlib.Path("now").exists():
        raise ValueError("not yet")
    with open("seen", "a") as seen:
        seen.write(f"{event.position} {event.name}\\n")
"""
CONFIG = """
[store]
url = "{url}"
[handlers.rules]
type = "python"
call = "rules:on_event"
from = "beginning"
retry = {{ base = "1s", cap = "1s" }}
"""


def post(server: Server, name: str, count: int = 1, first: int = 0) -> None:
    """Send events of some devices as one request."""
    lines = [
        f'{{"event":"{name}","data":"{name}{number}","coreid":"d{number}","published_at":"2026-07-28T16:53:05.616Z"}}'
        for number in range(first, first + count)
    ]
    request = urllib.request.Request(f"{server.url}/ingest/default", "\n".join(lines).encode())
    with urllib.request.urlopen(request, timeout=20) as answer:
        assert answer.status == 204


def seen(folder: Path) -> list[str]:
    """The names of the events that the handler took, in its order."""
    file = folder / "seen"
    return [line.split()[1] for line in file.read_text().splitlines()] if file.exists() else []


def copy(folder: Path, target: str) -> subprocess.Popen[bytes]:
    """Begin to copy this folder's store."""
    command = ["copy", "--from", f"sqlite:///{folder}/headrace.db", "--to", target]
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-m", "app.cli", *command], cwd=Path(__file__).parents[2],
                            stdout=pipe, stderr=pipe)  # fmt: skip


def test_a_server_goes_on_with_the_copy(tmp_path: Path) -> None:
    """Events, dead letters and cursors are where they were: what was parked is delivered, and nothing again."""
    (tmp_path / "rules.py").write_text(RULES)
    target = fresh_database()
    try:
        with Server(tmp_path, CONFIG.format(url=f"sqlite:///{tmp_path}/headrace.db")) as server:
            for start in range(0, 5000, 1000):
                post(server, "reading", 1000, start)
            post(server, "dead")
            post(server, "later")
            wait_until(lambda: len(seen(tmp_path)) == 5000, PATIENCE_SECONDS, "not delivered")
            url = f"{server.url}/api/v1/handlers"
            wait_until(lambda: get_json(url)["handlers"][0]["lag_events"] == 0, PATIENCE_SECONDS, "not passed")
            assert server.terminate() == 0
        copying = copy(tmp_path, target)
        copying.send_signal(signal.SIGINT)
        copying.communicate()
        for _ in range(2):
            copying = copy(tmp_path, target)
            out, err = copying.communicate(timeout=PATIENCE_SECONDS)
            if copying.returncode == 0:
                break
            assert b"seconds ago" in err, (out, err)
        assert copying.returncode == 0
        assert b"Both sides are equal" in out
        verify_balance(target)

        (tmp_path / "now").touch()
        (tmp_path / "headrace.toml").write_text(CONFIG.format(url=target))
        with Server(tmp_path, CONFIG.format(url=target)) as server:
            post(server, "reading", 10, 4995)  # five of them are there
            wait_until(lambda: len(seen(tmp_path)) == 5006, PATIENCE_SECONDS, "it does not go on")
            assert sorted(seen(tmp_path)[5000:]) == ["later", *["reading"] * 5]
            (dead,) = get_json(f"{server.url}/api/v1/handlers/rules/dead")["dead"]
            assert dead["error"] == "as it is"
            verify_balance(target)
    finally:
        session_server().drop_database(target)
