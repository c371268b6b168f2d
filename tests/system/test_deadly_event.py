"""A handler's code that ends the whole process, and a process that is killed: what comes again, and what does not."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import urllib.request
from collections import Counter
from contextlib import closing
from pathlib import Path

from tests.support.server import PATIENCE_SECONDS, Server, wait_until
from tests.system.test_cli import document

CONFIG = """
[handlers.rules]
type = "python"
call = "deadly_rules:on_event"
from = "beginning"
retry = { base = "1ms", cap = "10ms" }
"""
RULES = """
import os, time
from pathlib import Path

here = Path(__file__).parent

def append(name, text):
    with (here / name).open("a") as file:
        file.write(text)

def on_event(event):
    append("tried", f"{event.data.decode()}\\n")
    if event.name == "deadly":
        append("deaths", "x")
        os._exit(7)
    while event.name == "slow" and not (here / "mended").exists():
        time.sleep(0.01)
    append("arrived", f"{event.data.decode()}\\n")
"""
MOST_DEATHS = 4


def an_event(number: int, name: str = "t") -> dict[str, str]:
    """An event of one of many devices, whose data is its number."""
    at = "2026-07-28T16:53:05.616Z"
    return {"event": name, "coreid": f"d{number % 50}", "data": str(number), "published_at": at}


def stored(folder: Path, events: list[dict[str, str]]) -> Server:
    """A server with the handler, stopped, in whose store the events are."""
    (folder / "deadly_rules.py").write_text(RULES)
    with Server(folder, "") as server:
        request = urllib.request.Request(f"{server.url}/ingest/default", json.dumps(events).encode())
        with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
            assert answer.status == 204
        assert server.terminate() == 0
    return Server(folder, CONFIG)


def lines(file: Path) -> list[str]:
    """The numbers in a file, if it is there."""
    return file.read_text().split() if file.exists() else []


def has_ended(process: subprocess.Popen[bytes], file: Path, count: int) -> bool:
    """Whether the process did, or the file has so many numbers."""
    return process.poll() is not None or len(set(lines(file))) == count


def test_an_event_that_ends_the_process_does_not_stop_the_rest(tmp_path: Path) -> None:
    """After at most four deaths it is a dead letter, and everything else was delivered."""
    plain = [an_event(number) for number in range(60)]
    server, deaths = stored(tmp_path, [*plain[:30], an_event(60, "deadly"), *plain[30:]]), 0
    arrived = tmp_path / "arrived"
    try:
        while len(set(lines(arrived))) < 60:
            assert deaths <= MOST_DEATHS, server.log_tail()
            process = server.launch()
            wait_until(lambda: has_ended(process, arrived, 60), PATIENCE_SECONDS, server.log_tail)  # noqa: B023
            deaths += process.poll() is not None
        wait_until(lambda: bool(dead(tmp_path)), PATIENCE_SECONDS, server.log_tail)
    finally:
        server.kill()

    assert deaths == len((tmp_path / "deaths").read_text()) <= MOST_DEATHS
    assert "60" not in lines(arrived)
    (letter,) = dead(tmp_path)
    assert "the process died 3 times" in str(letter["error"])


def test_a_process_that_is_killed_repeats_what_was_in_flight(tmp_path: Path) -> None:
    """And not the 1,500 events that were delivered behind a slow one meanwhile."""
    server = stored(tmp_path, [an_event(0, "slow"), *(an_event(number) for number in range(1, 1550))])
    behind = {str(number) for number in range(1, 1550) if number % 50}  # those of its device wait
    try:
        server.launch()
        wait_until(lambda: set(lines(tmp_path / "arrived")) == behind, PATIENCE_SECONDS, server.log_tail)
        wait_until(lambda: saved_ahead(tmp_path) == len(behind), PATIENCE_SECONDS, server.log_tail)
        server.kill()
        (tmp_path / "mended").touch()
        server.launch()
        wait_until(lambda: len(set(lines(tmp_path / "arrived"))) == 1550, PATIENCE_SECONDS, server.log_tail)
    finally:
        server.kill()

    again = {number for number, times in Counter(lines(tmp_path / "tried")).items() if times > 1}
    assert again == {"0"}


def dead(folder: Path) -> list[dict[str, object]]:
    """The handler's dead letters."""
    return list(document(folder, "dead", "rules")["dead"])


def saved_ahead(folder: Path) -> int:
    """How many events the handler's row says were delivered beyond its position."""
    with closing(sqlite3.connect(folder / "headrace.db")) as connection:
        row = connection.execute("SELECT ahead FROM cursors WHERE handler = 'rules'").fetchone()
    return sum(json.loads(row[0])[1::2]) if row and row[0] else 0
