"""A record that cannot be committed costs its neighbours nothing, whatever is wrong; an outage is told apart."""

from __future__ import annotations

import sqlite3
from typing import Any

import asyncpg
import msgspec
import pytest
from sqlalchemy.exc import DBAPIError
from structlog.testing import capture_logs

from ingest.errors import StoreFault, StoreUnavailable
from ingest.event import Outcome, Record
from storage.database import DataRefused, translated
from storage.engine import Database
from storage.store import SqlStore
from tests.support.fresh import ALL
from tests.support.records import NOW, an_event, an_ignored, numbered
from tests.support.stored import positions, rows, run

STORES = ALL


def spoilt(**values: Any) -> Record:
    """An event with values that a fault of ours could give it: storing it raises."""
    return msgspec.structs.replace(an_event("spoilt"), published_at="noon", **values)


@pytest.mark.parametrize("at", [0, 3, 6])
async def test_a_record_by_which_our_code_fails_is_set_apart(at: int, database: Database) -> None:
    """It becomes a reject with its data, and those that are committed with it are stored."""
    records: list[Record] = list(numbered(6))
    records.insert(at, spoilt())

    commit = await SqlStore(database, lambda: NOW).commit(records)

    assert [index for index, outcome in enumerate(commit.outcomes) if outcome is Outcome.REJECTED] == [at]
    assert await positions(database) == [1, 2, 3, 4, 5, 6]
    assert await rows(database, "SELECT reason FROM rejects") == [("refused_by_store",)]


async def test_what_cannot_even_be_a_reject_is_deferred(database: Database) -> None:
    """Where the reject cannot be stored either, that record alone is deferred, and the log says so once a minute."""
    store = SqlStore(database, lambda: NOW)
    bad = spoilt(data=memoryview(b"1"))
    with capture_logs() as logs:
        for start in (0, 2):
            first, second = numbered(2, start)
            outcomes = (await store.commit([first, bad, second])).outcomes
            assert list(outcomes) == [Outcome.STORED, Outcome.DEFERRED, Outcome.STORED]

    assert await positions(database) == [1, 2, 3, 4]
    assert [line["event"] for line in logs] == ["record_cannot_be_stored"]


async def test_faulty_sql_is_no_outage(database: Database) -> None:
    """A statement that the database does not understand fails for the records that need it, and for no others."""
    store = SqlStore(database, lambda: NOW)
    known, *new = numbered(3)
    await store.commit([known])
    await run(database, "DROP TABLE sightings")

    assert list((await store.commit([known, *new])).outcomes) == [Outcome.REJECTED, Outcome.STORED, Outcome.STORED]


async def test_a_store_that_takes_nothing_at_all_defers_everything(database: Database) -> None:
    """Where each record fails alone, and as a reject, all are deferred, and nothing is raised."""
    await run(database, "DROP TABLE tallies")
    commit = await SqlStore(database, lambda: NOW).commit([*numbered(2), an_ignored()])
    assert list(commit.outcomes) == [Outcome.DEFERRED] * 3


STATES = {
    StoreUnavailable: ["08006", "25006", "25P03", "28P01", "3D000", "40001", "40P01", "42501", "53100", "53300",
                       "55P03", "55006", "57014", "57P01", "57P03", "58030"],
    DataRefused: ["22021", "23505", "54000"],
    StoreFault: ["42703", "42P01", "0A000", "25P02", "XX000", "P0001"],
}  # fmt: skip
CODES = {
    StoreUnavailable: [5, 6, 7, 8, 10, 13, 14, 261, 517, 264, 522, 778, 1034, 1038],
    StoreFault: [1, 11, 26, 21],
}


@pytest.mark.parametrize(("kind", "state"), [(kind, state) for kind, states in STATES.items() for state in states])
def test_postgresql_s_states_say_what_is_wrong(kind: type[Exception], state: str) -> None:
    """The way to the store, the data, or something else: by SQLSTATE."""
    error = asyncpg.PostgresError("what it says")
    error.sqlstate = state
    assert type(translated(DBAPIError(None, None, error))) is kind


@pytest.mark.parametrize(("kind", "code"), [(kind, code) for kind, codes in CODES.items() for code in codes])
def test_sqlite_s_codes_say_what_is_wrong(kind: type[Exception], code: int) -> None:
    """So for SQLite, whose OperationalError may be either: by its code, with or without its extension."""
    error = sqlite3.OperationalError("what it says")
    error.sqlite_errorcode = code
    assert type(translated(error)) is type(translated(DBAPIError(None, None, error))) is kind
