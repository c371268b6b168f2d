"""The servers that conversations are held with: Headrace as its users start it, and uvicorn alone."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.conversations.draft import SECRET
from tests.support.proxies import listens
from tests.support.server import Server, free_port, wait_until

_CONFIG = f"""
[sources.fleet.webhook]
max_body = "256KiB"

[sources.locked.webhook]
max_body = "256KiB"
auth = {{ type = "header", name = "X-Key", secrets = ["{SECRET.decode()}"] }}

[sources.asked.webhook]
max_body = "256KiB"
auth = {{ type = "query", name = "key", secrets = ["{SECRET.decode()}"] }}
"""
_NUMBER = re.compile(rb"n(\d+)\Z")
_STOP_SECONDS = 10.0


def headrace(folder: Path) -> Server:
    """A server on SQLite with three sources: one open, one that wants a header, one that wants a parameter."""
    return Server(folder, _CONFIG)


@dataclass(frozen=True, slots=True)
class Stored:
    """How often each number is stored, and how many events came more than once."""

    times: Mapping[int, int]
    sightings: int


def stored(folder: Path) -> Stored:
    """What a server that has ended left in the database."""
    with closing(sqlite3.connect(folder / "headrace.db")) as database:
        found = [_NUMBER.match(bytes(row[0])) for row in database.execute("SELECT data FROM events")]
        sightings = database.execute("SELECT count(*) FROM sightings").fetchone()[0]
    assert None not in found, "an event that nobody sent is stored"
    return Stored(Counter(int(match[1]) for match in found if match), sightings)


@contextmanager
def uvicorn_alone(folder: Path) -> Iterator[int]:
    """The port of uvicorn with an application that reads each body and answers 204."""
    port = free_port()
    with (folder / "uvicorn.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.conversations.alone", str(port)], stdout=log, stderr=log
        )
        try:
            wait_until(lambda: listens(port), 20, "uvicorn does not listen")
            yield port
        finally:
            process.kill()
            process.wait(_STOP_SECONDS)
