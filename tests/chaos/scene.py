"""What the fault runs share: a server on either database, with one open webhook source."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from tests.support.ledger import Fate, Ledger, Report
from tests.support.oracle import Load, plan, verify, verify_flow
from tests.support.postgres import own_server
from tests.support.server import PATIENCE_SECONDS, Server

PATH = "/ingest/fleet"
SQLITE = "sqlite"
POSTGRES = "postgresql"
_CONFIG = """
[store]
url = "{url}"

[sources.fleet]
mode = "webhook"
"""


@contextmanager
def store_of(kind: str, folder: Path) -> Iterator[str]:
    """Give the URL of a fresh store: a file, or a database of a server that may be stopped; it goes afterwards."""
    if kind == SQLITE:
        yield f"sqlite:///{folder / 'headrace.db'}"
        return
    url = own_server().fresh_database()
    try:
        yield url
    finally:
        own_server().drop_database(url)


def server_on(url: str, folder: Path, handler: str = "", losses: Sequence[str] = ()) -> Server:
    """A server on a store that has the newest schema; not started yet. `handler` is the configuration of one."""
    server = Server(folder, _CONFIG.format(url=url) + handler, losses=losses)
    if not url.startswith("sqlite:"):
        server.migrate()
    return server


def full_speed(server: Server, folder: Path, run: str = "load", **rest: object) -> Load:
    """64 connections that send numbered events as fast as they are answered, a few of them twice."""
    return Load(plan(server.url + PATH, run, folder, **({"redeliver": 0.02} | rest)))


def redeliver(load: Load, ledger: Ledger, folder: Path, chance: random.Random) -> None:
    """Send again what got no answer, as senders do, and some of what did; all of it is accepted now."""
    known = ledger.numbers(Fate.ACKNOWLEDGED)
    numbers = ledger.numbers(Fate.UNANSWERED, Fate.DEFERRED) + chance.sample(known, min(len(known), 200))
    again = folder / "again"
    again.mkdir()
    with Load(msgspec.structs.replace(load.plan, folder=str(again), numbers=numbers)) as second:
        report, answers = second.finish(PATIENCE_SECONDS)
    assert set(report.answers) == {"204"}, f"a redelivery was not accepted: {report}"
    assert not report.cut
    ledger.learn(answers)


def check(server: Server, url: str, ledgers: Mapping[str, Ledger]) -> None:
    """The store owes nothing, and a fresh event flows."""
    verify(url, ledgers)
    verify_flow(server.url, PATH)


def only(report: Report, *statuses: str) -> None:
    """No answer but these, each 503 with a Retry-After."""
    assert set(report.answers) <= set(statuses), f"other answers than {statuses}: {report}"
