"""The vendor's word on its webhooks is shown by hour and name, beside what was stored of that name in that hour."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from ingest.event import EchoOutcome, Event, HookEcho, Ignored, Mode
from ingest.times import rfc3339
from storage import hook_echoes as tallying
from storage.engine import Database
from storage.gaps import SourceKey
from storage.queries import hook_echoes
from storage.queries.hook_echoes import EchoFilter, HookEchoRow, hook_echoes_page
from storage.queries.sources import stored_sources
from storage.store import SqlStore
from tests.support.fresh import ALL
from tests.support.records import NOW, an_event, an_ignored

STORES = ALL
TOP = NOW.replace(minute=0, second=0, microsecond=0)
HOURS = timedelta(hours=1)
NOTHING = {"sent": 0, "response": 0, "error": 0, "skipped": 0}


def echo(name: str, outcome: str = "sent", *, hours: int = 0, source: str = "fleet", mode: Mode = "sse") -> Ignored:
    """An echo that a source heard in an hour."""
    return an_ignored(HookEcho(name, EchoOutcome(outcome)), source=source, mode=mode, received_at=NOW + hours * HOURS)


def events(name: str, count: int, at: datetime, source: str = "fleet", mode: Mode = "webhook") -> list[Event]:
    """Events of a name, a second apart."""
    times = [at + timedelta(seconds=number) for number in range(count)]
    return [an_event(name, published_at=time, source=source, mode=mode) for time in times]


async def commit(database: Database, *records: Event | Ignored) -> None:
    """Commit in one batch."""
    await SqlStore(database, lambda: NOW).commit(records)


async def page(database: Database, limit: int = 100, **wanted: object) -> list[HookEchoRow]:
    """The rows of a page, which is all there is."""
    found = await database.read(hook_echoes_page, EchoFilter(**wanted), limit)  # type: ignore[arg-type]
    assert found.next is None
    return list(found.hook_echoes)


async def test_a_row_says_what_was_said_and_what_was_stored(database: Database) -> None:
    """By hour, source, mode and name, the newest hour first; stored whichever mode brought it, in that hour alone."""
    await commit(database, *[echo("loc")] * 3, echo("loc", "error"), echo("loc", "skipped"), echo("alarm", "response"))
    await commit(database, echo("loc", mode="pubsub"), echo("loc", source="other"), echo("loc", hours=1))
    await commit(database, *events("loc", 4, TOP), *events("loc", 2, TOP + HOURS / 2, mode="sse"))
    await commit(database, *events("loc", 1, TOP - timedelta(seconds=1)), *events("loc", 5, TOP + HOURS))
    await commit(database, *events("location", 9, TOP), *events("loc", 2, TOP + HOURS / 4, "other"))

    now, later = rfc3339(TOP), rfc3339(TOP + HOURS)

    def row(hour: str, mode: str, name: str, stored: int, source: str = "fleet", **counts: int) -> HookEchoRow:
        return HookEchoRow(hour=hour, source=source, mode=mode, name=name, stored=stored, **{**NOTHING, **counts})

    assert await page(database) == [
        row(later, "sse", "loc", 5, sent=1),
        row(now, "pubsub", "loc", 6, sent=1),
        row(now, "sse", "alarm", 0, response=1),
        row(now, "sse", "loc", 6, sent=3, error=1, skipped=1),
        row(now, "sse", "loc", 2, source="other", sent=1),
    ]
    (fleet, *_) = await database.read(stored_sources, {})
    assert (fleet.source, fleet.mode, fleet.hook_echoes) == ("fleet", "pubsub", {**NOTHING, "sent": 1})
    rows = {(found.source, found.mode): found for found in await database.read(stored_sources, {})}
    assert rows["fleet", "sse"].hook_echoes == {"sent": 4, "response": 1, "error": 1, "skipped": 1}
    assert rows[SourceKey("fleet", "webhook")].hook_echoes == NOTHING


async def test_pages_are_whole_hours(database: Database) -> None:
    """What does not fit is on the next page, and by source and time there is less."""
    for hours, names in ((0, "abc"), (1, "ab"), (2, "a")):
        await commit(database, *[echo(name, hours=hours) for name in names], echo("z", hours=hours, source="other"))

    async def walk(limit: int) -> list[tuple[str, str]]:
        found, until = [], None
        while True:
            read = await database.read(hook_echoes_page, EchoFilter(until=until), limit)
            assert len(read.hook_echoes) <= limit
            found += [(row.hour, row.name) for row in read.hook_echoes]
            if read.next is None:
                return found
            until = datetime.fromisoformat(read.next)

    tops = [rfc3339(TOP + n * HOURS) for n in (0, 1, 2)]
    all_rows = [*[(tops[2], n) for n in "az"], *[(tops[1], n) for n in "abz"], *[(tops[0], n) for n in "abcz"]]
    for limit in (4, 5, 6, 8, 9, 10):
        assert await walk(limit) == all_rows
    assert await walk(1) == [(tops[2], "z"), (tops[1], "z"), (tops[0], "z")]  # an hour that does not fit is cut

    assert [row.name for row in await page(database, source="other")] == ["z"] * 3
    assert [row.hour for row in await page(database, since=TOP + HOURS, source="fleet")] == [tops[2], *[tops[1]] * 2]
    assert await page(database, since=TOP + HOURS / 2, until=TOP + HOURS) == []
    assert {row.hour for row in await page(database, until=TOP + HOURS / 2)} == {tops[0]}


async def test_so_many_events_are_looked_at_and_no_more(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest hours first; of what is beyond the bound, and of many names as one, nothing is claimed."""
    monkeypatch.setattr(hook_echoes, "_MOST_EVENTS", 10)
    monkeypatch.setattr(hook_echoes, "_CHUNK", 3)
    monkeypatch.setattr(tallying, "MOST_NAMES", 1)
    await commit(database, *[echo(name, hours=hours) for name in ("a", "b") for hours in (0, 1, 2)])
    for hours, count in ((0, 1), (1, 4), (2, 7)):
        await commit(database, *events("a", count, TOP + hours * HOURS))

    shown = [(row.name, row.stored) for row in await page(database)]
    assert shown == [("(others)", None), ("a", 7), ("(others)", None), ("a", None), ("(others)", None), ("a", None)]
    assert [row.stored for row in await page(database, until=TOP + 2 * HOURS)] == [None, 4, None, 1]
