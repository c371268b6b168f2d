"""Slow questions of others: the service's own reads and writes never wait for them, and each has an end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, make_url, text

from ingest.errors import StoreUnavailable
from storage.engine import Database, open_database
from storage.migrate import migrate
from storage.read_apart import ReadApart
from storage.sqlite import SqliteDatabase, WriterThread
from storage.store import SqlStore
from tests.support.fresh import SQLITE
from tests.support.records import NOW, numbered
from tests.support.stored import positions

_ENDLESS = "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers) SELECT count(*) FROM numbers"


def count_for_ever(connection: Connection) -> None:
    """A question without an end."""
    connection.execute(text(_ENDLESS if connection.dialect.name == SQLITE else "SELECT pg_sleep(3600)"))


@pytest.fixture
async def readers(url: str, database: Database) -> AsyncIterator[Database]:
    """The same database for others, which have a second for a question where the database is SQLite."""
    parsed = make_url(url)
    readers: Database = (
        SqliteDatabase(parsed, WriterThread(parsed), read_seconds=2.0)
        if database.dialect == SQLITE
        else open_database(url)
    )
    yield ReadApart(database, readers)
    await readers.close()


async def test_slow_readers_keep_nobody_else_waiting(database: Database, readers: Database) -> None:
    """However many ask, the service reads and commits meanwhile, and what they write goes its way too."""
    slow = [asyncio.create_task(readers.read(count_for_ever)) for _ in range(30)]
    async with asyncio.timeout(60):
        for number in range(5):
            await SqlStore(database, lambda: NOW).commit(numbered(1, number))
            assert await positions(database) == list(range(1, number + 2))
        await SqlStore(readers, lambda: NOW).commit(numbered(1, 9))
    assert not any(task.done() and task.exception() is None for task in slow)
    for task in slow:
        task.cancel()
    await asyncio.gather(*slow, return_exceptions=True)


async def test_a_question_without_an_end_is_stopped(tmp_path: Path) -> None:
    """Whoever asked is told so, and its thread and connection serve others again."""
    url = make_url(f"sqlite:///{tmp_path}/test.db")
    database = SqliteDatabase(url, WriterThread(url), read_seconds=0.5)
    await migrate(database)
    async with asyncio.timeout(60):
        answers = await asyncio.gather(*(database.read(count_for_ever) for _ in range(10)), return_exceptions=True)
        assert {str(answer) for answer in answers} == {"no answer to a question for 0.5 s"}
        assert all(isinstance(answer, StoreUnavailable) for answer in answers)
        while True:  # the thread may need a from_micros to hear of it
            try:
                assert await positions(database) == []
                break
            except StoreUnavailable:
                continue
    await database.close()
