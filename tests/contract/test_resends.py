"""What a device sent again, under another id, is a duplicate by its own number of the message, in the same commit."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.event import Event, Mode, Outcome
from storage.engine import Database, open_database
from storage.feed import SqlFeed
from storage.migrate import migrate
from storage.retention import Retention
from storage.store import SqlStore
from tests.support.fresh import ALL, SQLITE, fresh_store
from tests.support.partitioned import ROWS, small_partitions
from tests.support.records import NOW, an_event
from tests.support.stored import positions, rows, run, tallies

STORES = ALL
DAY = timedelta(days=1)


def sent(
    second: int, message: str | None = "m1", *, source: str = "fleet", mode: Mode = "webhook", device: str = "dev1"
) -> Event:
    """A message as the vendor stamped it in that second: each stamp makes another id."""
    at = NOW + timedelta(seconds=second)
    return an_event(published_at=at, received_at=at, source=source, mode=mode, device=device, message=message)


def store_of(database: Database) -> SqlStore:
    """A store of a process of its own."""
    return SqlStore(database, lambda: NOW)


async def outcomes(database: Database, *events: Event) -> list[Outcome]:
    """What becomes of events in one batch."""
    return list((await store_of(database).commit(events)).outcomes)


async def test_a_message_is_stored_once(database: Database) -> None:
    """Within a batch and across batches, ways and sources of the product: the first is stored, the others sighted."""
    first = await outcomes(database, sent(0), sent(1), an_event("other"), sent(2, mode="sse"))
    later = await outcomes(database, sent(3, source="second"), sent(1), sent(4, "m2"), sent(5, "m2"))

    assert first == [Outcome.STORED, Outcome.RESEND, Outcome.STORED, Outcome.RESEND]
    assert later == [Outcome.RESEND, Outcome.RESEND, Outcome.STORED, Outcome.RESEND]
    assert await positions(database) == [1, 2, 3]
    assert await tallies(database) == {"stored": 3, "resend": 5}
    at = int(NOW.timestamp() * 1_000_000)
    seen = await rows(database, "SELECT position, source, mode, received_at FROM sightings ORDER BY id")
    assert seen == [
        (1, "fleet", "webhook", at + 1_000_000),
        (1, "fleet", "sse", at + 2_000_000),
        (1, "second", "webhook", at + 3_000_000),
        (1, "fleet", "webhook", at + 1_000_000),
        (3, "fleet", "webhook", at + 5_000_000),
    ]


async def test_the_same_event_is_no_resend(database: Database) -> None:
    """Whoever comes twice under one id is what it always was, with a number of the device's or without."""
    told = await outcomes(database, sent(0), sent(0), sent(0, mode="sse"), sent(0, None))
    again = await outcomes(database, msgspec.structs.replace(sent(0), stream=1), sent(1), sent(0))

    assert told == [Outcome.STORED, Outcome.REDELIVERY, Outcome.OVERLAP, Outcome.REDELIVERY]
    assert again == [Outcome.REDUNDANT, Outcome.RESEND, Outcome.REDELIVERY]


async def test_others_numbers_are_their_own(database: Database) -> None:
    """The same number of another device or product is another message, and without a number nothing is compared."""
    other_product = msgspec.structs.replace(sent(2), product="other")
    without = [sent(3, None), sent(4, None)]
    told = await outcomes(database, sent(0), sent(1, device="dev2"), other_product, *without)

    assert told == [Outcome.STORED] * 5
    assert await outcomes(database, msgspec.structs.replace(sent(9), product="other")) == [Outcome.RESEND]
    assert await rows(database, "SELECT count(*) FROM messages") == [(3,)]


async def test_many_messages_are_looked_up_together(database: Database) -> None:
    """Ten thousand in a batch, as new ones and as copies."""

    def stamped(day: int) -> list[Event]:
        return [sent(day * 86_400 + number, f"m{number}", device=f"d{number % 7}") for number in range(10_000)]

    assert set(await outcomes(database, *stamped(0))) == {Outcome.STORED}
    assert set(await outcomes(database, *stamped(1))) == {Outcome.RESEND}
    assert len(await positions(database)) == 10_000


async def test_processes_that_store_a_message_at_once_store_it_once(database: Database, another: Database) -> None:
    """Two replicas that are sent copies of the same messages at the same time keep one of each."""

    async def commit(store: SqlStore, day: int) -> list[Outcome]:
        batches = [[sent(day * 86_400 + n, f"m{n}") for n in range(start, start + 5)] for start in range(0, 60, 5)]
        return [outcome for batch in batches for outcome in (await store.commit(batch)).outcomes]

    told = await asyncio.gather(*(commit(store_of(one), day) for day, one in enumerate([database, another] * 2)))

    assert Counter(outcome for outcomes in told for outcome in outcomes) == {
        Outcome.STORED: 60,
        Outcome.RESEND: 180,
    }
    assert len(await positions(database)) == 60


@pytest.mark.parametrize("text", ["ü\U0001f321", "'; --", "x" * 256, "5"])
async def test_a_number_may_be_any_text(text: str, database: Database) -> None:
    """What the formats make of a device's number can be kept and found."""
    assert await outcomes(database, sent(0, text)) == [Outcome.STORED]
    assert await outcomes(database, sent(1, text)) == [Outcome.RESEND]


async def test_who_reads_sees_no_number(database: Database) -> None:
    """Handlers are given the same event from memory as from the store."""
    commit = await store_of(database).commit([sent(0), sent(1, "m2")])

    assert [event.message for event in commit.events()] == [None, None]
    assert list(await SqlFeed(database).read(0, 10)) == list(commit.events())


async def test_numbers_go_with_their_events(database: Database) -> None:
    """When retention has taken an event, its number may come again, as a new message; young ones are still known."""
    await store_of(database).commit([sent(0), sent(20 * 86_400, "m2")])
    await Retention(database, 10 * DAY, (), lambda: NOW + 25 * DAY).purge()

    assert await positions(database) == [2]
    assert await rows(database, "SELECT message, position FROM messages") == [("m2", 2)]
    late = 25 * 86_400
    assert await outcomes(database, sent(late), sent(late + 1, "m2")) == [Outcome.STORED, Outcome.RESEND]


@pytest.fixture
async def partitioned(postgres_url: str) -> AsyncIterator[Database]:
    """PostgreSQL, which alone has partitions."""
    database = open_database(postgres_url)
    yield database
    await database.close()


async def test_numbers_go_with_their_partition(partitioned: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A partition that is taken out takes its numbers along: at once for who asks, from the table soon after."""
    database = partitioned
    await small_partitions(database, monkeypatch)
    store = store_of(database)
    for start in range(0, ROWS, 256):
        await store.commit([sent(number, f"m{number}") for number in range(start, start + 256)])
    await store.commit([sent(20 * 86_400, "young")])
    await run(database, "INSERT INTO deliveries VALUES ('h', 7, 'dev1', 1, 1, NULL, 'boom')")

    retention = Retention(database, 10 * DAY, (), lambda: NOW + 25 * DAY)
    with monkeypatch.context() as stopped:  # as if it ended between the two
        stopped.setattr("storage.partitions.taken_out", lambda _connection: [])
        await retention.purge()
    assert (await rows(database, "SELECT count(*) FROM messages"))[0][0] > ROWS // 2
    late = 25 * 86_400
    again = [sent(late + number, message) for number, message in enumerate(["m1", "m1", "m6", "young"])]
    told = await outcomes(database, *again)
    assert told == [Outcome.STORED, Outcome.RESEND, Outcome.RESEND, Outcome.RESEND]  # m6: a dead letter's is kept

    await Retention(database, 10 * DAY, (), lambda: NOW + 25 * DAY).purge()
    kept = await rows(database, "SELECT message FROM messages ORDER BY message")
    assert kept == [("m1",), ("m6",), ("young",)]


COPIES = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c"]),  # the message
        st.integers(0, 2),  # which copy of it: stamped for itself
        st.sampled_from(["webhook", "sse"]),
        st.sampled_from(["fleet", "second"]),
    ),
    min_size=1,
    max_size=24,
)


@pytest.mark.parametrize("kind", [SQLITE])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(copies=COPIES, size=st.integers(1, 8))
def test_any_order_of_arrival_leaves_one_row_of_each(
    kind: str, copies: list[tuple[str, int, Mode, str]], size: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """However often, in whatever order, by whichever way copies come: each message is stored once, all else sighted."""
    events = [
        sent(1000 * ord(message) + copy, message, mode=mode, source=source) for message, copy, mode, source in copies
    ]
    asyncio.run(_is_stored_once(fresh_store(kind, tmp_path_factory.mktemp("copies")), events, size))


async def _is_stored_once(url: str, events: Sequence[Event], size: int) -> None:
    database = open_database(url)
    try:
        await migrate(database)
        batches = [events[start : start + size] for start in range(0, len(events), size)]
        told = [(await store_of(database).commit(batch)).outcomes for batch in batches]
        messages = {event.message for event in events}
        assert len(await positions(database)) == len(messages)
        assert sum(list(outcomes).count(Outcome.STORED) for outcomes in told) == len(messages)
        (seen,) = (await rows(database, "SELECT count(*) FROM sightings"))[0]
        assert seen == len(events) - len(messages)
        firsts = {event.message: event.id for event in reversed(events)}
        assert {event.id for event in await SqlFeed(database).read(0, 100)} == set(firsts.values())
    finally:
        await database.close()
