"""The oracle: it sends numbered events, writes down every answer, and afterwards says what the store owes.

It knows the product only by HTTP and by the rows of its database.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from tests.support import database
from tests.support.driver import Plan, Progress
from tests.support.ledger import Fate, Ledger, Report
from tests.support.numbered import Numbered, number_of
from tests.support.server import clean_environment, wait_until

_SHOWN = 5
_FRESH_RUN = "fresh"
_DUPLICATES = ("redelivery", "overlap", "redundant", "resend")


class Load:
    """A load driver, the module `driver`, in a process of its own. Leaving the block ends it."""

    def __init__(self, plan: Plan, driver: str = "tests.support.driver") -> None:
        self.plan = plan
        self.progress = Progress(0, 0)
        self._folder = Path(plan.folder)
        command = [sys.executable, "-m", driver, msgspec.json.encode(plan).decode()]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).resolve().parents[2])
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()
        self._listener.join()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def wait_for(self, condition: Callable[[Progress], bool], seconds: float, failure: str) -> None:
        """Return as soon as the progress is so. Raises AssertionError after `seconds`."""
        wait_until(lambda: condition(self.progress), seconds, lambda: f"{failure}: {self.progress}")

    def stop(self, seconds: float = 30.0) -> tuple[Report, Ledger]:
        """Tell the driver to send nothing more; what it saw."""
        self._process.terminate()
        return self.finish(seconds)

    def finish(self, seconds: float) -> tuple[Report, Ledger]:
        """Wait for the plan's end; what the driver saw."""
        code = self._process.wait(seconds)
        assert code == 0, f"the load driver failed with {code}"
        report = self._folder / f"{self.plan.run}.report.json"
        ledger = Ledger.read(self._folder / f"{self.plan.run}.ledger")
        return msgspec.json.decode(report.read_bytes(), type=Report), ledger

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.progress = msgspec.json.decode(line, type=Progress)


def plan(url: str, run: str, folder: Path, **rest: object) -> Plan:
    """A plan that starts now: `rest` are fields of Plan."""
    known = {"url": url, "run": run, "folder": str(folder), "started": datetime.now(UTC)}
    return msgspec.convert(known | rest, Plan)


def faults(contents: database.Contents, ledgers: Mapping[str, Ledger]) -> list[str]:
    """Every way in which a store breaks the promise, given what was acknowledged in each run; empty is good."""
    return [
        *_position_faults(contents),
        *_tally_faults(contents),
        *_event_faults(contents.rows, ledgers),
    ]


def verify(database_url: str, ledgers: Mapping[str, Ledger]) -> database.Contents:
    """Raise AssertionError with every fault of the store; what it holds, otherwise."""
    contents = database.read(database_url)
    found = faults(contents, ledgers)
    assert not found, "\n".join(found)
    verify_balance(database_url)
    return contents


def verify_balance(database_url: str) -> None:
    """The product's own `headrace verify` finds nothing. Raises AssertionError."""
    environment = clean_environment() | {"HEADRACE_STORE__URL": database_url}
    command = [sys.executable, "-m", "app.cli", "verify"]
    at = Path(__file__).parent  # where no configuration is
    done = subprocess.run(command, cwd=at, env=environment, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr


def verify_flow(base_url: str, path: str) -> None:
    """A fresh event goes in by HTTP and can be read by HTTP. Raises AssertionError."""
    started = datetime.now(UTC)
    events = Numbered(_FRESH_RUN, started)
    number = int(started.timestamp() * 1000) % 10**10
    posted = urllib.request.Request(base_url + path, events.body(number), {"Content-Type": "application/json"})
    with urllib.request.urlopen(posted, timeout=20) as answer:
        assert answer.status == 204, f"a fresh event got {answer.status}"
    newest = get_json(f"{base_url}/api/v1/events?order=desc&limit=1&device={events.device(number)}")["events"]
    sent = json.loads(events.body(number))
    assert newest, "a fresh event is not listed"
    assert newest[0]["data"] == sent["data"], f"another event is the newest: {newest[0]}"
    again = get_json(f"{base_url}/api/v1/events/{newest[0]['id']}")
    assert again["position"] == newest[0]["position"]


def verify_metrics(base_url: str) -> dict[str, float]:
    """Raise AssertionError unless arrivals equal the sum of their outcomes; the sums by outcome otherwise."""
    sums: defaultdict[str, float] = defaultdict(float)
    for name, value in read_metrics(base_url):
        if name.startswith("headrace_events_"):
            sums[name.removeprefix("headrace_events_").removesuffix("_total")] += value
    outcomes = sum(sums[name] for name in ("stored", "duplicate", "rejected", "ignored", "deferred", "in_flight"))
    assert sums["received"] == outcomes, f"received is not the sum of its outcomes: {dict(sums)}"
    return dict(sums)


def read_metrics(base_url: str) -> Iterator[tuple[str, float]]:
    """Every sample of /metrics as its name, without labels, and value."""
    with urllib.request.urlopen(f"{base_url}/metrics", timeout=20) as answer:
        text = answer.read().decode()
    for line in text.splitlines():
        if line and not line.startswith("#"):
            sample, value = line.rsplit(" ", 1)
            yield sample.split("{")[0], float(value)


def get_json(url: str) -> dict[str, Any]:
    """The JSON object at a URL."""
    with urllib.request.urlopen(url, timeout=20) as answer:
        return dict(json.load(answer))


def _position_faults(contents: database.Contents) -> Iterator[str]:
    positions = [row.position for row in contents.rows]
    if positions != list(range(1, contents.head + 1)):
        holes = sorted(set(range(1, contents.head + 1)).symmetric_difference(positions))
        yield f"positions are not 1..{contents.head}: {len(positions)} rows, {_some(holes)} out of place"


def _tally_faults(contents: database.Contents) -> Iterator[str]:
    tallied = contents.tallies.get("stored", 0) - contents.tallies.get("expired", 0)
    if tallied != len(contents.rows):
        yield f"{len(contents.rows)} rows, but tallied stored - expired = {tallied}"
    duplicates = sum(contents.tallies.get(kind, 0) for kind in _DUPLICATES)
    if duplicates != contents.sightings:
        yield f"{contents.sightings} sightings, but tallied duplicates = {duplicates}"
    if (rejected := contents.tallies.get("rejected", 0)) != contents.rejects:
        yield f"{contents.rejects} rejects, but tallied rejected = {rejected}"


def _event_faults(rows: Sequence[database.Row], ledgers: Mapping[str, Ledger]) -> Iterator[str]:
    copies = Counter(number_of(row.data) for row in rows)
    if twice := [number for number, count in copies.items() if count > 1]:
        yield f"stored more than once: {_some(twice)}"
    if len({row.id for row in rows}) != len(rows):
        yield "an id is there twice"
    for run, ledger in ledgers.items():
        if lost := [number for number in ledger.numbers(Fate.ACKNOWLEDGED) if (run, number) not in copies]:
            yield f"acknowledged in {run} but not stored: {_some(lost)}"
    sent = {(run, number) for run, ledger in ledgers.items() for number in ledger.numbers(*_SENT)}
    if strangers := [number for number in copies if number not in sent and (number or ("", 0))[0] != _FRESH_RUN]:
        yield f"stored but never sent: {_some(strangers)}"


_SENT = (Fate.UNANSWERED, Fate.ACKNOWLEDGED, Fate.DEFERRED, Fate.REFUSED)


def _some(found: Sequence[object]) -> str:
    return f"{len(found)} ({', '.join(map(str, found[:_SHOWN]))}{', …' if len(found) > _SHOWN else ''})"
