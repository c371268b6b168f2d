"""The vendor's word on its webhooks is tallied by hour and name with the commit that ignores it, in few rows."""

from __future__ import annotations

from datetime import timedelta

import pytest

from ingest.event import EchoOutcome, HookEcho, Ignored, Outcome
from storage import hook_echoes
from storage.engine import Database
from storage.folding import Folding
from storage.retention import Retention
from storage.store import SqlStore
from tests.contract.test_store_faults import REFUSED_NAME
from tests.support.fresh import ALL
from tests.support.records import NOW, an_event, an_ignored
from tests.support.stored import rows, tallies

STORES = ALL
SENT, ERROR = EchoOutcome.SENT, EchoOutcome.ERROR
HOUR = int(NOW.timestamp()) // 3600


def echo(name: str, outcome: EchoOutcome = SENT, *, hours: int = 0, mode: str = "sse") -> Ignored:
    """An echo that came so many hours after NOW."""
    return an_ignored(HookEcho(name, outcome), mode=mode, received_at=NOW + timedelta(hours=hours))


async def commit(database: Database, *records: Ignored) -> None:
    """Commit in one batch."""
    told = (await SqlStore(database, lambda: NOW).commit(records)).outcomes
    assert set(told) == {Outcome.IGNORED}


async def kept(database: Database) -> list[tuple[int, str, str, str, int]]:
    """What is tallied, by hours after NOW."""
    query = "SELECT hour, mode, name, outcome, count FROM hook_echoes ORDER BY hour, mode, name, outcome"
    return [(hour - HOUR, *others) for hour, *others in await rows(database, query)]


async def test_echoes_are_added_up(database: Database) -> None:
    """By hour, mode, name and outcome; what says nothing of webhooks is ignored as ever, and all are."""
    await commit(database, echo("a"), echo("a"), echo("a", ERROR), an_ignored())
    await commit(database, echo("a"), echo("b"), echo("a", hours=1), echo("a", mode="pubsub"))

    assert await kept(database) == [
        (0, "pubsub", "a", "sent", 1),
        (0, "sse", "a", "error", 1),
        (0, "sse", "a", "sent", 3),
        (0, "sse", "b", "sent", 1),
        (1, "sse", "a", "sent", 1),
    ]
    assert await tallies(database) == {"ignored": 8}


async def test_what_is_not_committed_is_not_tallied(database: Database) -> None:
    """The tally is of the same transaction as the outcome."""
    store = SqlStore(database, lambda: NOW)
    outcomes = (await store.commit([echo("a"), an_event(REFUSED_NAME), echo("a")])).outcomes

    assert list(outcomes) == [Outcome.IGNORED, Outcome.REJECTED, Outcome.IGNORED]
    assert await kept(database) == [(0, "sse", "a", "sent", 2)]


async def test_of_many_names_all_but_the_first_are_one(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a batch and over batches: a name that has its row keeps it, and each hour and mode begins anew."""
    monkeypatch.setattr(hook_echoes, "MOST_NAMES", 3)
    await commit(database, *[echo(name) for name in "abab"])
    await commit(database, *[echo(name) for name in "cdea"], echo("d", ERROR), echo("d", hours=1), echo("d", mode="x"))
    await commit(database, echo("f"), echo("b"), echo(hook_echoes.OTHERS))

    assert await kept(database) == [
        (0, "sse", "(others)", "error", 1),
        (0, "sse", "(others)", "sent", 4),
        (0, "sse", "a", "sent", 3),
        (0, "sse", "b", "sent", 3),
        (0, "sse", "c", "sent", 1),
        (0, "x", "d", "sent", 1),
        (1, "sse", "d", "sent", 1),
    ]


async def test_they_go_with_retention(database: Database) -> None:
    """An hour that is over longer than the retention is forgotten as a whole."""
    await commit(database, echo("a"), echo("b"), echo("a", hours=1), echo("a", hours=2), an_ignored())
    await Retention(database, timedelta(days=1), (), lambda: NOW + timedelta(hours=26)).purge()

    assert [hour for hour, *_ in await kept(database)] == [2]


async def test_none_is_kept_for_longer_than_a_month(database: Database) -> None:
    """Also where events are kept for ever."""
    await commit(database, echo("a"), echo("b"), echo("a", hours=5))
    await Folding(database, lambda: NOW + timedelta(days=31, hours=2)).fold()

    assert [hour for hour, *_ in await kept(database)] == [5]
