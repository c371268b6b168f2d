"""`headrace redrive` with a rate beside a running server, interrupted by Ctrl+C. Imports nothing of the product."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.server import PATIENCE_SECONDS, Server, wait_until

CHECKOUT = Path(__file__).resolve().parents[2]
LETTERS = 60
RULES = """
from pathlib import Path
from ingest import DeadLetter

def on_event(event):
    if not Path("mended").exists():
        raise DeadLetter("the rules are broken")
    with Path("delivered").open("a") as file:
        file.write(f"{event.id}\\n")
"""
WITH_RULES = '[handlers.rules]\ntype = "python"\ncall = "rules:on_event"\nfrom = "beginning"\n'


def redrive(folder: Path, rate: str) -> subprocess.Popen[str]:
    """Begin to redrive everything."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
    command = [sys.executable, "-m", "app.cli", "redrive", "rules", "--all", "--rate", rate]
    pipe = subprocess.PIPE
    environment = inherited | {"PYTHONPATH": str(CHECKOUT)}
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=pipe, stderr=pipe, text=True)


def dead(server: Server) -> int:
    """How many dead letters there are."""
    with urllib.request.urlopen(f"{server.url}/api/v1/handlers", timeout=10) as answer:
        return sum(int(row["dead"]) for row in json.load(answer)["handlers"])


def fewer_than(count: int, server: Server) -> Callable[[], bool]:
    """Whether there are fewer dead letters than before."""
    return lambda: dead(server) < count


def post(url: str, document: Any, **headers: str) -> Any:
    """The status and the document of an answer."""
    request = urllib.request.Request(url, json.dumps(document).encode(), headers, method="POST")
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.status, json.loads(answer.read() or b"null")


def give_up(server: Server, folder: Path) -> None:
    """Let a handler give up all events, and be mended then."""
    events = [{"event": "alarm", "data": str(number), "coreid": "dev"} for number in range(LETTERS)]
    assert post(f"{server.url}/ingest/default", events) == (204, None)
    wait_until(lambda: dead(server) == LETTERS, PATIENCE_SECONDS, "not all are dead letters")
    (folder / "mended").touch()


def test_a_stop_ends_what_goes_on_in_the_server(tmp_path: Path) -> None:
    """A redrive with a rate does not hold up a stop; what it left is dead still."""
    (tmp_path / "rules.py").write_text(RULES)
    with Server(tmp_path, WITH_RULES) as server:
        give_up(server, tmp_path)
        token = {"Authorization": f"Bearer {(tmp_path / 'headrace.token').read_text().strip()}"}
        begun = post(f"{server.url}/api/v1/handlers/rules/redrive", {"all": True, "rate": "5/s"}, **token)
        assert begun == (202, {"to_redrive": LETTERS, "seconds": LETTERS / 5})
        wait_until(fewer_than(LETTERS, server), PATIENCE_SECONDS, "nothing is redriven")
        assert server.terminate() == 0
        server.start()
        assert 0 < dead(server) < LETTERS


def test_nothing_is_delivered_twice(tmp_path: Path) -> None:
    """Interrupted twice it says what it did and exits 130; the third run does the rest, and each is delivered once."""
    (tmp_path / "rules.py").write_text(RULES)
    delivered = tmp_path / "delivered"
    with Server(tmp_path, WITH_RULES) as server:
        give_up(server, tmp_path)
        for _ in range(2):
            left = dead(server)
            with redrive(tmp_path, "10/s") as process:
                wait_until(fewer_than(left, server), PATIENCE_SECONDS, "nothing is redriven")
                process.send_signal(signal.SIGINT)
                out, said = process.communicate(timeout=PATIENCE_SECONDS)
            assert (process.returncode, out) == (130, "")
            assert said.startswith("Stopped: rules gets ")
            assert "Run it again for the others." in said
        with redrive(tmp_path, "1000/s") as process:
            out, said = process.communicate(timeout=PATIENCE_SECONDS)
        assert (process.returncode, said) == (0, "")
        wait_until(lambda: len(delivered.read_text().split()) >= LETTERS, PATIENCE_SECONDS, "not all are delivered")
    counts = Counter(delivered.read_text().split())
    assert len(counts) == LETTERS
    assert set(counts.values()) == {1}
