"""What ingest.protocols.Store promises, on SQLite and on PostgreSQL; and that these tests notice when it does not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import ParamSpec, TypeVar

import msgspec
import pytest

from ingest.event import DUPLICATES, Commit, Event, Outcome, Reason, Record, Reject
from ingest.protocols import Store
from storage.engine import Database
from storage.feed import SqlFeed
from storage.store import SqlStore
from tests.support.fresh import ALL
from tests.support.postgres_proxy import Proxy
from tests.support.records import NOW, a_reject, an_event, an_ignored, numbered
from tests.support.stored import positions, rejects, rows, tallies

STORES = ALL
P = ParamSpec("P")
T = TypeVar("T")
Line = tuple[Proxy, Database, Database]
Rule = Callable[[Store, Database], Awaitable[None]]


def store_of(database: Database) -> SqlStore:
    """A store of a process of its own."""
    return SqlStore(database, lambda: NOW)


async def rule_positions_are_dense(store: Store, database: Database) -> None:
    """Positions are given in order of commit, to new events only, without a hole."""
    first = await store.commit([*numbered(3), *numbered(2)])
    second = await store.commit([*numbered(5, 1), a_reject(), an_ignored()])

    assert [event.position for event in first.events()] == [1, 2, 3]
    assert [event.position for event in second.events()] == [4, 5, 6]
    assert await positions(database) == [1, 2, 3, 4, 5, 6]
    assert await rows(database, "SELECT position FROM head") == [(6,)]


async def rule_first_of_equals_is_stored(store: Store, database: Database) -> None:
    """Of equal ids the first is STORED; the others say how the first came, within a batch and across batches."""
    event = an_event()
    other_source, other_mode = an_event(source="other"), an_event(mode="sse")

    within = await store.commit([event, event, other_source])
    across = await store.commit([event, other_mode, other_source])

    assert list(within.outcomes) == [Outcome.STORED, Outcome.REDELIVERY, Outcome.OVERLAP]
    assert list(across.outcomes) == [Outcome.REDELIVERY, Outcome.OVERLAP, Outcome.OVERLAP]
    assert await positions(database) == [1]


async def rule_every_further_arrival_is_sighted(store: Store, database: Database) -> None:
    """A duplicate changes nothing about the event, and leaves who else saw it and when."""
    await store.commit([an_event(), an_event(source="other", mode="sse", attributes={"seen": "later"})])
    await store.commit([an_event()])

    seen = await rows(database, "SELECT position, source, mode FROM sightings ORDER BY id")
    assert seen == [(1, "other", "sse"), (1, "fleet", "webhook")]
    assert await rows(database, "SELECT source, attributes FROM events") == [("fleet", "{}")]


async def rule_rejects_are_kept(store: Store, database: Database) -> None:
    """A reject is kept byte for byte, with its reason."""
    bodies = [b"\x00\xff{", b"", b"{" * 100_000]
    commit = await store.commit([a_reject(body, reason=Reason.TOO_DEEP) for body in bodies])

    kept = await rows(database, "SELECT reason, body FROM rejects ORDER BY id")
    assert list(commit.outcomes) == [Outcome.REJECTED] * 3
    assert [(reason, bytes(body)) for reason, body in kept] == [("too_deep", body) for body in bodies]


async def rule_rejects_keep_their_attributes(store: Store, database: Database) -> None:
    """What stood beside a reject's bytes comes back unchanged, NUL and lone surrogates too; nothing is None."""
    beside = [{"nul": "a\x00b", "\x00": "", "sign": "ü\U0001f321"}, None, {"half": "\ud800", "\udfff": ""}]
    sent = [a_reject(b"%d" % number, attributes=attributes) for number, attributes in enumerate(beside)]
    for reject in sent:  # one by one: a lone surrogate travels another way than the rest
        assert list((await store.commit([reject])).outcomes) == [Outcome.REJECTED]
    await store.commit([a_reject(attributes={})])

    assert await rejects(database) == [*sent, a_reject()]


async def rule_rejects_keep_their_requests(store: Store, database: Database) -> None:
    """The headers of the request and the number of the element come back; without any both are None."""
    sent = [a_reject(headers={"content-type": "ü", "x": ""}, element=number) for number in (0, 9_999)]
    await store.commit([*sent, a_reject(headers={})])

    assert await rejects(database) == [*sent, a_reject()]


async def rule_outcomes_are_tallied(store: Store, database: Database) -> None:
    """What was committed is tallied in the same transaction: stored tallies are rows, and nothing is left out."""
    commits = [
        await store.commit([*numbered(3), a_reject(), an_ignored()]),
        await store.commit([*numbered(4), an_event(source="other")]),
    ]

    told = [outcome for commit in commits for outcome in commit.outcomes]
    assert await tallies(database) == {outcome.value: told.count(outcome) for outcome in set(told)}
    assert (await tallies(database))["stored"] == len(await positions(database))


RULES: list[Rule] = [
    rule_positions_are_dense,
    rule_first_of_equals_is_stored,
    rule_every_further_arrival_is_sighted,
    rule_rejects_are_kept,
    rule_rejects_keep_their_attributes,
    rule_rejects_keep_their_requests,
    rule_outcomes_are_tallied,
]


@pytest.mark.parametrize("rule", RULES)
async def test_the_store_keeps_the_rule(rule: Rule, database: Database) -> None:
    """Every rule above holds for the store that ships."""
    await rule(store_of(database), database)


class Mutant:
    """A Store that breaks one rule on purpose: `spoil` changes what is committed, or what is told of it."""

    def __init__(
        self,
        store: Store,
        *,
        records: Callable[[Sequence[Record]], Sequence[Record]] = lambda records: records,
        told: Callable[[Commit], Commit] = lambda commit: commit,
    ) -> None:
        self._store = store
        self._records = records
        self._told = told

    async def commit(self, records: Sequence[Record]) -> Commit:
        """Not what protocols.Store says."""
        kept = self._records(records)
        commit = self._told(await self._store.commit(kept))
        missing = [Outcome.STORED] * (len(records) - len(kept))
        return Commit([*commit.outcomes, *missing], commit.events)


def _renamed(records: Sequence[Record]) -> Sequence[Record]:
    return [msgspec.structs.replace(record, source="fleet", mode="webhook") for record in records]


def _bare(records: Sequence[Record]) -> Sequence[Record]:
    bare = partial(msgspec.structs.replace, attributes=None, headers=None, element=None)
    return [bare(r) if isinstance(r, Reject) else r for r in records]


def _told_stored(commit: Commit) -> Commit:
    return Commit([Outcome.STORED if one in DUPLICATES else one for one in commit.outcomes], commit.events)


def _told_out_of_order(commit: Commit) -> Commit:
    return Commit(commit.outcomes, lambda: list(reversed(commit.events())))


MUTANTS: dict[str, tuple[Callable[[Store], Store], Rule]] = {
    "acknowledges the last record without committing it": (
        lambda store: Mutant(store, records=lambda records: records[:-1]),
        rule_rejects_are_kept,
    ),
    "forgets what stood beside a reject": (
        lambda store: Mutant(store, records=_bare),
        rule_rejects_keep_their_attributes,
    ),
    "forgets the request of a reject": (
        lambda store: Mutant(store, records=_bare),
        rule_rejects_keep_their_requests,
    ),
    "calls duplicates stored": (lambda store: Mutant(store, told=_told_stored), rule_first_of_equals_is_stored),
    "forgets which way an event came": (
        lambda store: Mutant(store, records=_renamed),
        rule_every_further_arrival_is_sighted,
    ),
    "tells positions out of order": (lambda store: Mutant(store, told=_told_out_of_order), rule_positions_are_dense),
    "drops what it ignores before tallying": (
        lambda store: Mutant(store, records=lambda records: [r for r in records if isinstance(r, Event)]),
        rule_outcomes_are_tallied,
    ),
}


@pytest.mark.parametrize("mutant", MUTANTS)
async def test_a_rule_notices_the_mutant(mutant: str, database: Database) -> None:
    """The rules are worth something: a store that breaks one fails it."""
    spoil, rule = MUTANTS[mutant]
    with pytest.raises(AssertionError):
        await rule(spoil(store_of(database)), database)


async def test_two_processes_share_one_order(database: Database, another: Database) -> None:
    """Two stores committing the same events at once store each of them once, in one dense order."""
    batches = [numbered(40, start * 20) for start in range(12)]  # neighbours overlap by half

    async def commit_all(store: SqlStore) -> list[Commit]:
        return [await store.commit(batch) for batch in batches]

    commits = [
        commit
        for commits in await asyncio.gather(commit_all(store_of(database)), commit_all(store_of(another)))
        for commit in commits
    ]

    ids = {event.id for batch in batches for event in batch}
    stored = [event for commit in commits for event in commit.events()]
    assert sorted(event.position or 0 for event in stored) == list(range(1, len(ids) + 1))
    assert {event.id for event in stored} == ids
    assert await positions(database) == list(range(1, len(ids) + 1))
    assert await tallies(database) == {"stored": len(ids), "redelivery": 2 * 12 * 40 - len(ids)}


async def test_processes_that_commit_one_by_one_never_collide(database: Database, another: Database) -> None:
    """However closely they follow one another, nobody's position is given to somebody else's event."""

    async def commit_each(store: SqlStore, events: Sequence[Event]) -> list[Outcome]:
        return [outcome for event in events for outcome in (await store.commit([event])).outcomes]

    stores = [store_of(database), store_of(another), store_of(database), store_of(another)]
    told = await asyncio.gather(*(commit_each(store, numbered(15, 100 * n)) for n, store in enumerate(stores)))

    assert {outcome for outcomes in told for outcome in outcomes} == {Outcome.STORED}
    assert await positions(database) == list(range(1, 61))
    assert await tallies(database) == {"stored": 60}


@pytest.mark.parametrize(
    "event",
    [
        an_event(data=b"\x00\x01\xff\xfe"),
        an_event(data=b""),
        an_event(data=None, device=None),
        an_event(data=b'{"a": "\\ud800", "n": 1e400}'),
        an_event(data=b"x" * 5_000_000),
        an_event("näme \U0001f321", device="gerät"),
        an_event(attributes={"fw_version": "91", "nul": "\x00", "half": "\ud800", "\udfff": ""}),
        an_event(published_at=datetime(1, 1, 1, tzinfo=UTC)),
        an_event(published_at=datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)),
        an_event(published_at=None),
    ],
    ids=["binary", "empty", "nothing", "odd json", "huge", "unicode", "surrogates", "year 1", "year 9999", "no time"],
)
async def test_an_event_is_read_back_as_it_was_written(event: Event, database: Database) -> None:
    """Whatever a sender may write comes back unchanged, with its position."""
    await store_of(database).commit([event])

    assert list(await SqlFeed(database).read(0, 10)) == [msgspec.structs.replace(event, position=1)]


async def test_ten_thousand_records_commit_together(database: Database) -> None:
    """The largest body that is accepted commits in one go, as new events and as duplicates."""
    events = numbered(10_000)
    store = store_of(database)

    first, again = await store.commit(events), await store.commit(events)

    assert set(first.outcomes) == {Outcome.STORED}
    assert set(again.outcomes) == {Outcome.REDELIVERY}
    assert await positions(database) == list(range(1, 10_001))


async def test_an_empty_batch_is_nothing(database: Database) -> None:
    """Committing no records changes nothing and is no error."""
    commit = await store_of(database).commit([])

    assert (list(commit.outcomes), list(commit.events())) == ([], [])
    assert await tallies(database) == {}
