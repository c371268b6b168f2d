"""What a server, a database or a role has as default does not change what Headrace promises on PostgreSQL."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from sqlalchemy import Connection, text

from ingest.errors import ConfigurationError, StoreUnavailable
from ingest.event import Outcome
from storage import postgres, store
from storage.engine import Database, open_database
from storage.migrate import migrate, require_newest, revision
from storage.store import SqlStore
from tests.support.fresh import ALL
from tests.support.postgres import database_name, session_server
from tests.support.records import NOW, numbered
from tests.support.stored import run

STORES = ALL


@pytest.fixture
async def operator(postgres_url: str) -> AsyncIterator[Database]:
    """The database as its operator has it."""
    database = open_database(postgres_url)
    yield database
    await database.close()


@pytest.fixture
async def database(postgres_url: str, operator: Database) -> AsyncIterator[Database]:
    """The database as Headrace has it; it connects when it is first used, after `by_default`."""
    database = open_database(postgres_url)
    yield database
    await database.close()


async def by_default(operator: Database, postgres_url: str, **settings: str) -> None:
    """Give the database defaults, for every connection from now on."""
    for name, value in settings.items():
        await run(operator, f"ALTER DATABASE {database_name(postgres_url)} SET {name} = '{value}'")


def backend(connection: Connection) -> int:
    """The process of the server that has a connection."""
    return int(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())


def take_long(connection: Connection) -> None:
    """Do something for half a second."""
    connection.execute(text("SELECT pg_sleep(0.5)"))


def settings(connection: Connection, *names: str) -> list[str]:
    """What is set in a transaction."""
    return [str(connection.execute(text(f"SHOW {name}")).scalar_one()) for name in names]


@pytest.mark.parametrize(
    ("default", "used"),
    [("off", "on"), ("local", "on"), ("on", "on"), ("remote_write", "remote_write"), ("remote_apply", "remote_apply")],
)
async def test_every_transaction_is_on_the_disk_when_it_returns(
    default: str, used: str, operator: Database, database: Database, postgres_url: str
) -> None:
    """A default that lets commits wait in memory, or on this machine alone, is raised; a stricter one stays."""
    await by_default(operator, postgres_url, synchronous_commit=default)

    assert await database.write(settings, "synchronous_commit") == [used]
    assert await database.alter(settings, "synchronous_commit") == [used]
    assert await database.read(settings, "synchronous_commit") == [default]  # it outlives no transaction


async def test_a_commit_compiles_no_plan(
    operator: Database, database: Database, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However dear a plan looks, a server that would compile it does not in a commit."""
    await by_default(operator, postgres_url, jit="on", jit_above_cost="0")
    seen: list[list[str]] = []
    lock_head = store._lock_head

    def noting(connection: Connection) -> int:
        seen.append(settings(connection, "jit", "enable_seqscan"))
        return lock_head(connection)

    monkeypatch.setattr(store, "_lock_head", noting)
    await SqlStore(database, lambda: NOW).commit(numbered(2))

    assert seen == [["off", "off"]]


async def test_two_servers_commit_whatever_the_default_isolation(
    operator: Database, database: Database, postgres_url: str
) -> None:
    """Under a default of repeatable read, or stricter, replicas that commit at once do not fail by one another."""
    await by_default(operator, postgres_url, default_transaction_isolation="serializable")
    replica = open_database(postgres_url)
    stores = [SqlStore(database, lambda: NOW), SqlStore(replica, lambda: NOW)]

    commits = await asyncio.gather(*(stores[number % 2].commit(numbered(1, number)) for number in range(40)))

    assert [commit.outcomes for commit in commits] == [[Outcome.STORED]] * 40
    await replica.close()


async def test_a_connection_that_cannot_write_is_dropped(
    operator: Database, database: Database, postgres_url: str
) -> None:
    """A server that takes no writes for a while is written to when it does again; what reads connects anew too."""
    await by_default(operator, postgres_url, default_transaction_read_only="on")
    reader = await database.read(backend)
    refused = await asyncio.gather(*(SqlStore(database, lambda: NOW).commit(numbered(1)) for _ in range(4)),
                                   return_exceptions=True)  # fmt: skip
    assert [type(answer) for answer in refused] == [StoreUnavailable] * 4
    await by_default(operator, postgres_url, default_transaction_read_only="off")

    for number in range(4):
        assert (await SqlStore(database, lambda: NOW).commit(numbered(1, number))).outcomes == [Outcome.STORED]
    assert await database.read(backend) != reader


async def test_a_change_of_the_schema_takes_as_long_as_it_takes(
    operator: Database, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No limit of ours or of the server's ends a migration; everything else is ended."""
    await by_default(operator, postgres_url, statement_timeout="100ms", lock_timeout="100ms")
    monkeypatch.setattr(postgres, "_COMMAND_SECONDS", 0.2)
    database = open_database(postgres_url)
    with pytest.raises(StoreUnavailable):
        await database.write(take_long)

    await database.alter(take_long)
    await database.close()


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
@pytest.mark.parametrize("look", [migrate, require_newest, revision])
async def test_a_database_that_cannot_keep_every_name_is_refused(
    encoding: str, look: Callable[[Database], Awaitable[object]]
) -> None:
    """Where a name could not be stored, migrate, serve and check say so, and what to do."""
    name = f"latin_{secrets.token_hex(6)}"
    server = session_server()
    server.execute(f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0")
    database = open_database(f"postgresql://postgres:@/{name}?host={server.folder}")
    with pytest.raises(ConfigurationError, match=f"in UTF8, not {encoding}"):
        await look(database)
    await database.close()
    server.drop_database(name)
