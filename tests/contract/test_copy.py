"""A SQLite store copied to PostgreSQL is the same store, in all rows of all tables; interrupted, a copy goes on."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Boolean, Column, Connection, Float, Integer, LargeBinary, Table, insert

from app.cli import run as headrace
from storage import copying, tables
from storage.database import Database
from storage.engine import open_database
from storage.migrate import migrate
from storage.store import SqlStore
from storage.tables import EventId
from tests.support.fresh import POSTGRES, fresh_store
from tests.support.records import NOW, a_reject, numbered
from tests.support.stored import rows, run

ROWS = 700
SMALL_PAGE = 100


@pytest.fixture
def source_url(tmp_path: Path) -> str:
    """A SQLite store with rows in every table."""
    url = f"sqlite:///{tmp_path}/headrace.db"
    asyncio.run(_filled(url))
    return url


@pytest.fixture
def target_url(tmp_path: Path) -> str:
    """An empty PostgreSQL store."""
    return fresh_store(POSTGRES, tmp_path)


async def _filled(url: str) -> None:
    database = open_database(url)
    await migrate(database)

    def fill(connection: Connection) -> None:
        chance = random.Random(1)
        for table in copying.copied_tables():
            connection.execute(insert(table), [_row(table, number, chance) for number in range(1, ROWS + 1)])
        connection.execute(tables.head.update().values(position=ROWS + 5))
        connection.exec_driver_sql("DELETE FROM rejects WHERE id > 690")  # their numbers are not given again

    await database.write(fill)
    await database.close()


def _row(table: Table, number: int, chance: random.Random) -> dict[str, Any]:
    """A row that could be there, and has a value in nearly every column."""
    return {column.name: _value(column, number, chance) for column in table.columns}


def _value(column: Column[Any], number: int, chance: random.Random) -> object:
    if column.nullable and chance.random() < 0.2:
        return None
    if isinstance(column.type, EventId):
        return numbered(1, number)[0].id
    if isinstance(column.type, LargeBinary):
        return chance.randbytes(chance.choice([0, 5, 3000]))
    if isinstance(column.type, Boolean):
        return True
    if isinstance(column.type, Float):
        return chance.random()
    if isinstance(column.type, Integer):
        return number if column.primary_key else chance.randrange(1, 10**15 if column.name.endswith("at") else 1000)
    return f"{column.name} é \0 {number if column.primary_key else ''}"


async def _interrupted(source_url: str, target_url: str, after: int) -> None:
    """Begin or go on, and be interrupted when so many rows more are there."""
    source, target = open_database(source_url), open_database(target_url)
    copied = 0

    def tell(_table: str, count: int) -> None:
        nonlocal copied
        copied += count
        if copied > after:
            raise KeyboardInterrupt

    try:
        await copying.begin(source, target, source_url.removeprefix("sqlite:///"))
        with pytest.raises(KeyboardInterrupt):
            await copying.copy(source, target, tell)
    finally:
        await source.close()
        await target.close()


def test_all_is_there_and_equal(
    source_url: str, target_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Interrupted twice, run again: every table equals its source, and what is new goes behind what was copied."""
    monkeypatch.setattr(copying, "_PAGE_ROWS", SMALL_PAGE)
    asyncio.run(_interrupted(source_url, target_url, 300))
    asyncio.run(_interrupted(source_url, target_url, 2500))

    assert headrace(["copy", "--from", source_url, "--to", target_url]) == 0, capsys.readouterr()
    shown = capsys.readouterr().out
    assert "Both sides are equal" in shown
    for table in copying.copied_tables():
        assert f"{table.name} " in shown
    asyncio.run(_goes_on(target_url))


def test_what_has_a_row_for_each_event_is_copied_by_pages() -> None:
    """Whichever table grows with the events fits into memory page by page only, and a copy goes on where it was."""
    for table in copying.copied_tables():
        if table.name in {"events", "sightings", "messages", "deliveries"}:
            assert copying._key(table) is not None, table.name


async def _goes_on(url: str) -> None:
    database = open_database(url)
    commit = await SqlStore(database, lambda: NOW).commit([*numbered(2, ROWS), a_reject()])
    assert [event.position for event in commit.events()] == [ROWS + 6]
    assert await rows(database, "SELECT max(id) FROM rejects") == [(ROWS + 1,)]
    assert await rows(database, "SELECT max(id) FROM sightings") == [(ROWS + 1,)]
    await database.close()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("UPDATE events SET data = 'x' WHERE position = 350", "events has 700 rows for 700, from 301 on"),
        ("DELETE FROM sightings WHERE id = 5", "sightings has 699 rows for 700, from 1 on"),
        ("INSERT INTO gaps (source, mode, since, cause, id) VALUES ('a', 'b', 1, 'idle', 9999)", "gaps has 701 rows"),
    ],
)
def test_a_difference_is_found(
    damage: str, said: str, source_url: str, target_url: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """What differs ends the command with 1, named by its table and where it begins."""
    monkeypatch.setattr(copying, "_PAGE_ROWS", SMALL_PAGE)
    copy = copying.copy

    async def damaged(source: Database, target: Database, tell: Any) -> None:
        await copy(source, target, tell)
        await run(target, damage)

    monkeypatch.setattr(copying, "copy", damaged)
    assert headrace(["copy", "--from", source_url, "--to", target_url]) == 1
    assert said in capsys.readouterr().err


def _ask(url: str, *statements: str) -> None:
    async def work() -> None:
        database = open_database(url)
        for statement in statements:
            await run(database, statement)
        await database.close()

    asyncio.run(work())


def test_what_cannot_be_copied_is_refused(
    source_url: str, target_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A target that holds something, another source's beginning, a server that runs, URLs that are none of the two."""

    def refused(code: int, said: str, source: str = source_url, target: str = target_url) -> None:
        assert headrace(["copy", "--from", source, "--to", target]) == code
        assert said in capsys.readouterr().err

    refused(2, "--from: expected a SQLite store", target_url)
    refused(2, "--from: there is no database", f"sqlite:///{tmp_path}/none.db")
    refused(2, "--to: expected a PostgreSQL store", source_url, source_url)
    refused(2, "--to: ", source_url, "nonsense")
    _ask(source_url, "UPDATE coverage SET ended = 0, until = 4102444800000000 WHERE id = 7")
    refused(1, "--from: a server runs on this store")
    _ask(source_url, "UPDATE coverage SET until = 1 WHERE id = 7")
    _ask(target_url, "INSERT INTO skipped VALUES ('alerts', 1, 2, 2, 1)")
    refused(1, "its table skipped is not")
    _ask(target_url, "DELETE FROM skipped")
    other = f"sqlite:///{tmp_path}/other.db"
    asyncio.run(_filled(other))
    asyncio.run(_interrupted(other, target_url, 300))
    refused(1, "the beginning of a copy of another store")
