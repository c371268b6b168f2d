"""What can be read from the store, the same on SQLite and on PostgreSQL, against a plain Python filter."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
from sqlalchemy import Connection, insert, text
from sqlalchemy import event as hooks

from ingest.deliveries import Attempt
from ingest.event import Cause, Event, Ignored, Mode, Origin, Reason, Record, Reject
from ingest.event_json import event_json
from ingest.identity import canonicalize, event_id, random_id, sender_value
from ingest.times import instant_of, parse_rfc3339, rfc3339
from storage.coverage import SqlCoverage
from storage.engine import Database
from storage.gaps import SourceKey, open_gaps
from storage.queries import page as page_module
from storage.queries.attempts import AttemptRow
from storage.queries.dead_letters import dead_causes, dead_page, dead_positions
from storage.queries.events import EventFilter, event_by_id, events_page
from storage.queries.gaps import gaps_page
from storage.queries.handlers import handler_exists, handler_rows
from storage.queries.page import PageSpan
from storage.queries.rejects import rejects_page
from storage.queries.sources import ConfiguredSource, stored_sources
from storage.rows import to_micros
from storage.store import SqlStore
from storage.tables import BLOCK_BITS, coverage, cursors, deliveries, gaps, ids_of
from tests.support.fresh import ALL
from tests.support.records import a_reject
from tests.support.stored import run

STORES = ALL
NOW = datetime(2026, 7, 28, 16, 53, 5, 616_000, tzinfo=UTC)


def an_event(
    name: str = "temperature",
    *,
    device: str | None = "dev1",
    data: bytes | None = b"21.5",
    published_at: datetime | None = NOW,
    product: str = "tracker",
    source: str = "fleet",
    mode: Mode = "webhook",
    sender_id: str | None = None,
) -> Event:
    """An event with the id its content gives it."""
    instant = None if published_at is None else instant_of(published_at)
    if instant is None and sender_id is None:
        id_ = random_id(instant_of(NOW))
    else:
        id_ = event_id(product, device, name, instant, sender_value(sender_id) if sender_id else canonicalize(data)[0])
    return Event(
        id=id_,
        product=product,
        device=device,
        name=name,
        data=data,
        content_type="text/plain",
        published_at=published_at,
        received_at=NOW,
        source=source,
        mode=mode,
        attributes={},
    )


def numbered(count: int, **fields: Any) -> list[Event]:
    """Events a second apart."""
    return [an_event(published_at=NOW + timedelta(seconds=number), **fields) for number in range(count)]


def batched(events: Sequence[Event], size: int) -> Iterator[Sequence[Event]]:
    """Cut into what an inbox would commit at once."""
    return (events[start : start + size] for start in range(0, len(events), size))


async def commit(database: Database, *records: Record, clock: Callable[[], datetime] = lambda: NOW) -> list[Event]:
    """Commit the records; the new events with their positions."""
    return list((await SqlStore(database, clock).commit(records)).events())


async def park(database: Database, handler: str, position: int, **values: Any) -> None:
    """A row of deliveries; due_at None is a dead letter."""
    row = {"handler": handler, "position": position, "device": "dev1", "attempts": 3, "error": "boom"} | values
    await database.write(lambda connection: connection.execute(insert(deliveries).values(row)) and None)


async def test_a_page_says_where_to_go_on(database: Database) -> None:
    """Following `next` visits every event once in order; `last` is there also when there is no more."""
    await commit(database, *numbered(7))

    first = await database.read(events_page, EventFilter(), PageSpan(limit=3))
    second = await database.read(events_page, EventFilter(), PageSpan(limit=3, after=first.last))
    third = await database.read(events_page, EventFilter(), PageSpan(limit=3, after=second.last))
    beyond = await database.read(events_page, EventFilter(), PageSpan(limit=3, after=third.last))

    pages = [[event.position for event in page.rows] for page in (first, second, third, beyond)]
    assert pages == [[1, 2, 3], [4, 5, 6], [7], []]
    assert [page.next for page in (first, second, third, beyond)] == [3, 6, None, None]
    assert [page.last for page in (first, second, third, beyond)] == [3, 6, 7, 7]


async def test_a_full_last_page_has_no_next(database: Database) -> None:
    """`next` is null as soon as there is no more, not one empty page later."""
    await commit(database, *numbered(3))

    page = await database.read(events_page, EventFilter(), PageSpan(limit=3))

    assert (page.next, page.last) == (None, 3)


async def test_an_exhausted_filter_does_not_look_again_at_what_it_passed(database: Database) -> None:
    """With a filter nothing passes, `last` is the head: going on from there misses nothing that comes later."""
    await commit(database, *numbered(5))
    rare = EventFilter(name="alarm/")

    nothing = await database.read(events_page, rare, PageSpan())
    await commit(database, an_event("alarm/fire"))
    found = await database.read(events_page, rare, PageSpan(after=nothing.last))

    assert (nothing.next, nothing.last) == (None, 5)
    assert [event.name for event in found.rows] == ["alarm/fire"]


async def test_descending_pages_go_back_from_the_newest(database: Database) -> None:
    """order=desc starts at the newest, and `before` goes on to older ones."""
    await commit(database, *numbered(5))

    first = await database.read(events_page, EventFilter(), PageSpan(limit=2, descending=True))
    second = await database.read(events_page, EventFilter(), PageSpan(limit=9, before=first.next, descending=True))

    assert [event.position for event in first.rows] == [5, 4]
    assert first.next == 4
    assert [event.position for event in second.rows] == [3, 2, 1]
    assert (second.next, second.last) == (None, 1)


async def test_descending_after_gives_only_what_is_new(database: Database) -> None:
    """`after` and order=desc together: the newest of what came since, which is what a page on the wall asks for."""
    await commit(database, *numbered(5))

    page = await database.read(events_page, EventFilter(), PageSpan(limit=2, after=2, descending=True))

    assert [event.position for event in page.rows] == [5, 4]
    assert page.next == 4


@pytest.mark.parametrize("prefix", ["t", "100%", "a_b", "a\\", "Te", "ü", "näme", "*", "[a"])
async def test_a_name_prefix_is_taken_literally(database: Database, prefix: str) -> None:
    """Wildcards of any pattern language are plain characters, and case counts."""
    names = ["temp", "TEMP", "Temp", "100%x", "100x", "a_b", "axb", "a\\b", "über", "näme/1", "*x", "[a]", "'; --"]
    await commit(database, *(an_event(name) for name in names))

    page = await database.read(events_page, EventFilter(name=prefix), PageSpan())

    assert [event.name for event in page.rows] == [name for name in names if name.startswith(prefix)]


@pytest.mark.parametrize("few", [10_000, 0], ids=["by id", "by position"])
async def test_filters_agree_with_a_plain_python_filter(
    database: Database, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any filter over any mixture of events gives what a list comprehension gives, whichever index is used."""
    monkeypatch.setattr("storage.queries.events._FEW_IDS", few)
    chance = random.Random(20260728)
    times = [_some_time(chance) for _ in range(60)]
    stored = await commit(database, *(_some_event(chance, times) for _ in range(400)))

    for _ in range(120):
        wanted = _some_filter(chance, times)
        span = PageSpan(limit=1000, after=chance.choice([0, 0, 57]), descending=chance.random() < 0.3)
        page = await database.read(events_page, wanted, span)
        passing = (event for event in stored if _passes(event, wanted) and (event.position or 0) > span.after)
        expected = [event_json(event) for event in passing]
        assert list(page.rows) == (expected[::-1] if span.descending else expected), wanted
        assert page.next is None


def _some_time(chance: random.Random) -> datetime:
    usual = NOW + timedelta(microseconds=chance.randrange(-5_000_000, 5_000_000))
    absurd = [
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        datetime(1970, 1, 1, tzinfo=UTC),
        datetime(1970, 1, 1, 0, 0, 0, 1, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    ]
    return chance.choice([usual, usual, usual.replace(microsecond=usual.microsecond // 1000 * 1000), *absurd[:5]])


def _some_event(chance: random.Random, times: list[datetime]) -> Event:
    published_at = chance.choice([*times, None])
    return an_event(
        chance.choice(["temp", "temp/inside", "alarm"]),
        device=chance.choice(["dev1", "dev2", None]),
        data=str(chance.random()).encode(),
        published_at=published_at,
        product=chance.choice(["tracker", "boron"]),
        source=chance.choice(["fleet", "other"]),
        sender_id=str(chance.random()) if published_at is None and chance.random() < 0.5 else None,
    )


def _some_filter(chance: random.Random, times: list[datetime]) -> EventFilter:
    def maybe(*values: Any) -> Any:
        return chance.choice([None, None, *values])

    return EventFilter(
        product=maybe("tracker", "boron"),
        device=maybe("dev1", "dev2"),
        name=maybe("temp", "temp/", "alarm"),
        source=maybe("fleet", "other"),
        since=chance.choice([None, *times]) if chance.random() < 0.7 else None,
        until=chance.choice([None, *times]) if chance.random() < 0.7 else None,
    )


def _passes(event: Event, wanted: EventFilter) -> bool:
    at = event.published_at
    return (
        (wanted.product is None or event.product == wanted.product)
        and (wanted.device is None or event.device == wanted.device)
        and (wanted.name is None or event.name.startswith(wanted.name))
        and (wanted.source is None or event.source == wanted.source)
        and (wanted.since is None or (at is not None and at >= wanted.since))
        and (wanted.until is None or (at is not None and at < wanted.until))
    )


async def test_a_page_of_large_events_is_cut_and_goes_on(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """However large events are, a page holds a bounded number of bytes, at least one event, and leads to the rest."""
    monkeypatch.setattr(page_module, "MAX_PAGE_BYTES", 1000)
    await commit(database, *numbered(2, data=b"x" * 400), an_event(data=b"y" * 5000), an_event("other", data=None))

    seen, after, sizes = [], 0, []
    for _ in range(4):
        page = await database.read(events_page, EventFilter(), PageSpan(limit=100, after=after))
        seen += [event.position for event in page.rows]
        sizes.append(len(page.rows))
        after = page.last

    assert seen == [1, 2, 3, 4]
    assert sizes == [2, 1, 1, 0]


@pytest.mark.parametrize(
    "fields",
    [{"attributes": {"a": "é" * 300}}, {"name": "n" * 600}, {"device": "d" * 600}, {"product": "p" * 600}],
    ids=["attributes", "name", "device", "product"],
)
async def test_a_page_counts_all_that_is_sent(
    database: Database, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any]
) -> None:
    """Whatever is large in an event, in bytes and not in letters, bounds a page of events and of dead letters."""
    monkeypatch.setattr(page_module, "MAX_PAGE_BYTES", 1000)
    large = (msgspec.structs.replace(an_event(data=b"%d" % number), **fields) for number in range(3))
    await commit(database, *large)
    await database.write(_give_up, "h", range(1, 4))

    events = await database.read(events_page, EventFilter(), PageSpan())
    dead = await database.read(dead_page, "h", PageSpan())

    assert [len(page.rows) for page in (events, dead)] == [1, 1]
    assert [page.next for page in (events, dead)] == [1, 1]
    rest = await database.read(dead_page, "h", PageSpan(after=1))
    assert [row.position for row in rest.rows] == [2]


async def test_a_page_of_dead_letters_counts_their_errors(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long error is sent too."""
    monkeypatch.setattr(page_module, "MAX_PAGE_BYTES", 1000)
    await database.write(_give_up, "h", range(1, 4), "e" * 600)

    assert len((await database.read(dead_page, "h", PageSpan())).rows) == 1


async def test_a_page_of_rejects_counts_base64_and_attributes(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body is shown in base64, a third larger, and what stood beside it is sent too."""
    monkeypatch.setattr(page_module, "MAX_PAGE_BYTES", 1000)
    await commit(database, a_reject(b"x" * 390), a_reject(b"y" * 390), a_reject(b"", attributes={"a": "b" * 600}))

    page = await database.read(rejects_page, PageSpan())
    rest = await database.read(rejects_page, PageSpan(after=1))
    assert (len(page.rows), page.next, len(rest.rows)) == (1, 1, 1)


def _give_up(connection: Connection, handler: str, positions: Iterable[int], error: str = "") -> None:
    rows = [{"handler": handler, "position": position, "attempts": 1, "error": error} for position in positions]
    connection.execute(insert(deliveries), rows)


@pytest.mark.parametrize("wanted", [EventFilter(device="dev1"), EventFilter(device="dev1", name="temp")])
async def test_a_devices_page_is_read_from_its_index(database: Database, wanted: EventFilter) -> None:
    """A device's events are found by (block, device): the cost does not grow with the other devices' events."""
    fleet = [an_event(device=f"dev{number % 100}", data=b"%d" % number) for number in range(3000)]
    await commit(database, *fleet)
    plans: list[str] = []

    def explained(connection: Connection) -> None:
        explain = "EXPLAIN QUERY PLAN " if connection.dialect.name == "sqlite" else "EXPLAIN "

        def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool) -> None:
            if "coalesce" in statement and not statement.startswith("EXPLAIN"):
                rows = connection.exec_driver_sql(explain + statement, parameters)
                plans.append(" ".join(str(value) for row in rows for value in row))

        if connection.dialect.name == "postgresql":
            connection.execute(text("ANALYZE events"))
        hooks.listen(connection, "before_cursor_execute", note)
        events_page(connection, wanted, PageSpan())

    await database.write(explained)

    assert plans
    assert all(re.search("ix_events_(p1_)?block_device", plan) for plan in plans), plans


@pytest.mark.parametrize("descending", [False, True])
async def test_a_devices_page_goes_on_through_its_blocks(database: Database, descending: bool) -> None:
    """A device that is rare is found wherever it is, in order, page after page, also around the edges of a block."""
    fleet = [an_event(device="busy", data=b"%d" % number) for number in range(3 << BLOCK_BITS)]
    rare = [1, 2, 1 << BLOCK_BITS, (1 << BLOCK_BITS) + 1, (3 << BLOCK_BITS) - 1, 3 << BLOCK_BITS]
    for position in rare:
        fleet[position - 1] = an_event(device="rare", data=b"%d" % position)
    for group in batched(fleet, 1000):
        await commit(database, *group)

    seen: list[int | None] = []
    span = PageSpan(limit=2, descending=descending)
    while len(seen) < len(rare) + 1:
        page = await database.read(events_page, EventFilter(device="rare"), span)
        seen += [event.position for event in page.rows]
        if page.next is None:
            break
        span = replace(span, before=page.next) if descending else replace(span, after=page.next)

    assert seen == sorted(rare, reverse=descending)


async def test_an_event_is_found_by_id_with_its_sightings(database: Database) -> None:
    """Each further arrival is listed with who saw it and when; an unknown id is nothing."""
    event = an_event()
    again = an_event(source="other", mode="sse")
    await commit(database, event)
    await commit(database, again)
    await commit(database, event)

    found = await database.read(event_by_id, event.id)

    assert found is not None
    assert (found.id, found.position) == (event.id, 1)
    assert [(s.source, s.mode, s.received_at) for s in found.sightings] == [
        ("other", "sse", rfc3339(NOW)),
        ("fleet", "webhook", rfc3339(NOW)),
    ]
    assert await database.read(event_by_id, UUID(int=1)) is None


async def test_rejects_come_in_pages_with_their_bytes(database: Database) -> None:
    """A reject keeps exactly what was sent, NUL and all, and can be asked for by source."""
    bodies = [b"\x00\xff{", b"", b"<xml/>"]
    for number, body in enumerate(bodies):
        source = "other" if number == 1 else "fleet"
        await commit(
            database,
            Reject(source=source, mode="webhook", received_at=NOW, reason=Reason.MALFORMED_JSON, body=body),
        )

    page = await database.read(rejects_page, PageSpan(limit=2))
    rest = await database.read(rejects_page, PageSpan(limit=2, after=page.last))
    of_fleet = await database.read(lambda connection: rejects_page(connection, PageSpan(), source="fleet"))

    assert [row.body for row in (*page.rows, *rest.rows)] == bodies
    assert (page.next, rest.next, rest.last) == (page.last, None, rest.rows[-1].id)
    assert [row.body for row in of_fleet.rows] == [bodies[0], bodies[2]]
    assert page.rows[0].received_at == rfc3339(NOW)


async def test_gaps_come_in_pages_and_last_until_they_end(database: Database) -> None:
    """Gaps are numbered as they begin; those that last are found by themselves, with their seconds up to now."""
    listening = SqlCoverage(database)
    for source, ago in (("fleet", 300), ("other", 200), ("fleet", 100)):
        opened = await listening.open(Origin("tracker", source, "sse"), 0, ago)
        await listening.end(opened.interval, Cause.IDLE, ago - 20)

    page = await database.read(gaps_page, PageSpan(limit=2))
    rest = await database.read(gaps_page, PageSpan(limit=2, after=page.last))
    newest = await database.read(gaps_page, PageSpan(limit=2, descending=True), source="fleet")
    lasting = await database.read(open_gaps)
    _, other = await database.read(stored_sources, {})

    assert [(row.id, row.source) for row in (*page.rows, *rest.rows)] == [(1, "fleet"), (2, "other"), (3, "fleet")]
    assert (page.next, rest.next, rest.last) == (2, None, 3)
    assert [row.id for row in newest.rows] == [3, 1]
    assert [*lasting] == [("fleet", "sse"), ("other", "sse")]
    closed, open_ = page.rows
    assert closed.until is not None
    length = parse_rfc3339(closed.until).at - parse_rfc3339(closed.since).at
    assert closed.cause == "idle"
    assert closed.seconds == pytest.approx(length.total_seconds(), abs=0.002)
    assert (open_.until, open_.since) == (None, rfc3339(lasting[SourceKey("other", "sse")].since))
    assert 180 <= open_.seconds < 300
    assert other.open_gap is not None
    assert (other.open_gap.since, other.open_gap.cause) == (open_.since, "idle")
    assert open_.seconds <= other.open_gap.seconds < 300


async def test_suspected_losses_have_three_decimals(database: Database) -> None:
    """They are an estimate: more digits would look like knowledge."""
    row = {"source": "fleet", "mode": "sse", "since": 0, "until": 1_500_000, "cause": "idle", "suspected": 1.23456}
    await database.write(lambda connection: connection.execute(insert(gaps).values(row)) and None)

    (gap,) = (await database.read(gaps_page, PageSpan())).rows

    assert (gap.suspected, gap.seconds, gap.until) == (1.235, 1.5, "1970-01-01T00:00:01.500Z")


async def test_source_totals_outlive_the_process(database: Database) -> None:
    """Counts per source and mode are what was committed, with the last minute of traffic and the time covered."""
    event = an_event()
    await commit(database, event, event, Ignored(source="fleet", mode="webhook", received_at=NOW))
    await commit(database, an_event(source="other", mode="sse"), clock=lambda: NOW + timedelta(minutes=3))
    listened = {"source": "other", "mode": "sse", "since": to_micros(NOW), "until": to_micros(NOW + timedelta(hours=1))}
    await database.write(
        lambda connection: connection.execute(insert(coverage).values({"stream": 0} | listened)) and None
    )

    configured = {SourceKey("fresh", "webhook"): ConfiguredSource("boron")}
    fresh, fleet, other = await database.read(stored_sources, configured)

    assert (fresh.source, fresh.product, fresh.counts["stored"], fresh.state) == ("fresh", "boron", 0, None)
    assert (fleet.source, fleet.mode, fleet.product) == ("fleet", "webhook", None)
    assert fleet.counts == {"stored": 1, "duplicate": 1, "rejected": 0, "ignored": 1, "expired": 0}
    assert fleet.duplicate_kinds == {"redelivery": 1, "overlap": 0, "redundant": 0, "resend": 0}
    assert fleet.last_minute == rfc3339(NOW.replace(second=0, microsecond=0))
    assert (fleet.state, fleet.covered_since) == (None, None)
    assert (other.counts["stored"], other.duplicate_kinds["overlap"]) == (0, 1)
    assert other.last_minute == rfc3339(NOW.replace(second=0, microsecond=0) + timedelta(minutes=3))
    assert (other.covered_since, other.covered_until) == (rfc3339(NOW), rfc3339(NOW + timedelta(hours=1)))


async def test_a_handlers_row_shows_how_far_behind_it_is(database: Database) -> None:
    """Lag in events and in seconds, what waits, what is dead, and who holds the lease until when."""
    now = datetime.now(UTC)
    late = [msgspec.structs.replace(event, received_at=now - timedelta(seconds=90)) for event in numbered(5)]
    await commit(database, *late)
    expires_at = now.replace(microsecond=0) + timedelta(minutes=10)
    rows = [
        {"handler": "alerts", "position": 3, "epoch": 1, "holder": "me", "expires_at": to_micros(expires_at)},
        {
            "handler": "rules",
            "position": 5,
            "epoch": 1,
            "holder": "me",
            "expires_at": to_micros(NOW - timedelta(days=999)),
        },
        {"handler": "stopped", "position": 5, "epoch": 1, "holder": None, "expires_at": None},
    ]
    await database.write(lambda connection: connection.execute(insert(cursors), rows) and None)
    await park(database, "alerts", 1, due_at=to_micros(NOW))
    await park(database, "alerts", 2, due_at=None)
    await park(database, "gone", 2, due_at=None)

    alerts, rules, stopped = await database.read(handler_rows)

    assert (alerts.handler, alerts.position, alerts.head, alerts.lag_events) == ("alerts", 3, 5, 2)
    assert (alerts.retries, alerts.dead) == (1, 1)
    assert 90 <= alerts.lag_seconds < 150
    assert (alerts.state, alerts.holder, alerts.lease_expires_at) == ("running", "me", rfc3339(expires_at))
    assert (rules.lag_seconds, rules.state, rules.retries, rules.dead) == (0.0, "stopped", 0, 0)
    assert (stopped.state, stopped.holder, stopped.lease_expires_at) == ("stopped", None, None)
    assert await database.read(handler_exists, "alerts")
    assert not await database.read(handler_exists, "nobody")


async def test_dead_letters_come_with_their_events(database: Database) -> None:
    """A dead letter shows event, cause and attempts; it stays when retention took the event; retries are none."""
    stored = await commit(database, *numbered(4))
    tried = Attempt(NOW, 0.5, 503, "server_error", "no")
    why = {"error": "refused: 410", "cause": "gone", "history": msgspec.json.encode([tried]).decode()}
    await park(database, "alerts", 2, due_at=None, first_failed_at=to_micros(NOW), **why)
    await park(database, "alerts", 3, due_at=to_micros(NOW))
    await park(database, "alerts", 4, due_at=None)
    await park(database, "rules", 1, due_at=None)
    for table in {"events", ids_of(database.dialect).name}:
        await run(database, f"DELETE FROM {table} WHERE position = 4")  # noqa: S608 - names

    page = await database.read(dead_page, "alerts", PageSpan(limit=1))
    rest = await database.read(dead_page, "alerts", PageSpan(after=page.last))

    (letter,) = page.rows
    assert letter.event == event_json(stored[1])
    assert (letter.position, letter.attempt_count, letter.first_failed_at) == (2, 3, rfc3339(NOW))
    assert (letter.cause, letter.error) == ("gone", "refused: 410")
    assert letter.attempts == [AttemptRow(at=rfc3339(NOW), seconds=0.5, status=503, cause="server_error", error="no")]
    assert page.next == 2
    assert [(row.position, row.event, row.attempts) for row in rest.rows] == [(4, None, [])]
    assert [row.position for row in (await database.read(dead_page, "alerts", PageSpan(), "gone")).rows] == [2]
    ids = [event.id for event in stored]
    assert await database.read(dead_positions, "alerts", ids) == [2]


async def test_dead_letters_are_counted_by_cause(database: Database) -> None:
    """Each cause and error with its count and when the first and the last of them failed, the most frequent first."""
    for position, (cause, error) in enumerate([("timeout", "late"), ("gone", "410"), ("timeout", "late")], 1):
        at = to_micros(NOW + timedelta(seconds=position))
        await park(database, "alerts", position, due_at=None, first_failed_at=at, cause=cause, error=error)
    await park(database, "alerts", 4, due_at=None, error="of an older version")
    await park(database, "alerts", 5, due_at=to_micros(NOW), cause="timeout", error="late")
    await park(database, "rules", 1, due_at=None, cause="timeout", error="late")

    rows = await database.read(dead_causes, "alerts")
    only = await database.read(dead_causes, "alerts", "gone")

    assert (rows[0].cause, rows[0].error, rows[0].count) == ("timeout", "late", 2)
    assert (rows[0].first, rows[0].last) == (rfc3339(NOW + timedelta(seconds=1)), rfc3339(NOW + timedelta(seconds=3)))
    assert {(row.cause, row.count, row.first is None) for row in rows[1:]} == {("gone", 1, False), (None, 1, True)}
    assert [(row.cause, row.count) for row in only] == [("gone", 1)]
