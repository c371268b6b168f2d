"""The process that writes: the same store, and what happens when one of the two processes goes away."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
from sqlalchemy import Connection, make_url

from ingest.errors import StoreUnavailable
from ingest.event import Outcome
from storage.database import Database, DataRefused
from storage.engine import open_database
from storage.migrate import migrate
from storage.postgres import PostgresDatabase
from storage.postgres_url import read_postgres_url
from storage.sqlite import SqliteDatabase
from storage.store import SqlStore
from storage.transactions import transaction
from storage.writer.process import WriterFault, WriterProcess
from tests.contract.test_store import RULES, Rule
from tests.support.records import NOW, an_event, numbered
from tests.support.stored import positions
from tests.support.written_apart import asleep, broken, pid_after, pid_of_writer, refused


def alive(pid: int) -> bool:
    """Whether there is such a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def until_gone(pid: int) -> None:
    """Return when the process has ended."""
    async with asyncio.timeout(20):
        while alive(pid):  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.01)


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    """A store that is written apart."""
    database = open_database(url, write_apart=True)
    await migrate(database)
    yield database
    await database.close()


@pytest.mark.parametrize("rule", RULES)
async def test_the_store_keeps_the_rule(rule: Rule, database: Database) -> None:
    """What holds for the store holds where it is written by another process."""
    await rule(SqlStore(database, lambda: NOW), database)


async def test_the_writer_is_another_process_that_ends_with_the_database(url: str) -> None:
    """It is one, whoever asks first, and nothing is left running."""
    database = open_database(url, write_apart=True)
    pids = set(await asyncio.gather(*(database.write(pid_of_writer) for _ in range(5))))

    assert len(pids) == 1
    assert os.getpid() not in pids
    await database.close()
    assert not any(map(alive, pids))


async def test_what_a_transaction_raises_is_raised_and_undone(database: Database) -> None:
    """In our terms where they are the database's errors; a fault of ours by its name and text."""
    with pytest.raises(WriterFault, match="ZeroDivisionError: by zero"):
        await database.write(broken)
    with pytest.raises(DataRefused):
        await database.write(refused)

    await SqlStore(database, lambda: NOW).commit(numbered(1))
    assert await positions(database) == [1]


async def test_only_what_is_marked_is_run(database: Database) -> None:
    """The service sends no function that is not a transaction, and the process runs no name that it does not know."""

    def unknown(_connection: Connection) -> None:
        """Do nothing: the other process has no such function."""

    with pytest.raises(LookupError, match="not marked as a transaction"):
        await database.write(unknown)
    unknown.__module__ = pid_of_writer.__module__
    with pytest.raises(WriterFault, match=r"LookupError: .*unknown is not marked as a transaction"):
        await database.write(transaction(unknown))


async def test_records_that_msgspec_cannot_write_travel_too(database: Database) -> None:
    """A lone surrogate reaches the database, which refuses it; its neighbour is stored."""
    commit = await SqlStore(database, lambda: NOW).commit([an_event("half \ud800"), an_event("whole")])

    assert list(commit.outcomes) == [Outcome.REJECTED, Outcome.STORED]
    assert [(event.name, event.position) for event in commit.events()] == [("whole", 1)]


async def test_a_writer_that_dies_costs_what_it_was_asked_and_is_replaced(database: Database) -> None:
    """Whoever waits hears StoreUnavailable, not nothing; the next write starts another."""
    first = await database.write(pid_of_writer)
    os.kill(first, signal.SIGSTOP)  # so that the questions are under way when it dies
    asked = [asyncio.create_task(database.write(pid_of_writer)) for _ in range(3)]
    await asyncio.sleep(0)
    os.kill(first, signal.SIGKILL)

    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert all(isinstance(answer, StoreUnavailable) for answer in answers), answers
    assert await database.write(pid_of_writer) != first
    assert await SqlStore(database, lambda: NOW).commit(numbered(2))


async def test_a_writer_that_cannot_start_costs_what_it_was_asked(capfd: pytest.CaptureFixture[str]) -> None:
    """Whoever waits hears StoreUnavailable, and the next write tries again."""
    writer = WriterProcess("nonsense://")
    async with asyncio.timeout(60):
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                await writer.run(pid_of_writer)
    await writer.close()
    assert "ConfigurationError" in capfd.readouterr().err


async def test_a_writer_that_answers_nothing_is_killed_and_replaced(url: str) -> None:
    """Whoever waits hears StoreUnavailable after a while, a stopped process does not stay, and the next write works."""
    database = _written_apart(url, silence_seconds=3.0)
    first = await database.write(pid_of_writer)
    os.kill(first, signal.SIGSTOP)

    async with asyncio.timeout(60):
        answers = await asyncio.gather(*(database.write(pid_of_writer) for _ in range(3)), return_exceptions=True)
        assert all(isinstance(answer, StoreUnavailable) for answer in answers), answers
        assert await database.write(pid_of_writer) != first
    await until_gone(first)
    await database.close()


async def test_a_writer_that_is_slow_but_answers_is_left_alone(tmp_path: Path) -> None:
    """Each answer shows that it works; together they may take longer than one may, and so may a pause in asking."""
    database = _written_apart(f"sqlite:///{tmp_path}/test.db", silence_seconds=3.0)
    first = await database.write(pid_of_writer)
    slow = await asyncio.gather(*(database.write(pid_after, 1.0) for _ in range(5)))
    assert {first, await database.write(pid_of_writer), *slow} == {first}
    await database.close()


async def test_a_writer_that_waits_for_postgresql_is_left_alone(postgres_url: str) -> None:
    """A server may take longer than a process may be silent; others are answered meanwhile."""
    database = _written_apart(postgres_url, silence_seconds=4.0)
    first = await database.write(pid_of_writer)
    slow = asyncio.create_task(database.write(asleep, 6.0))

    assert await database.write(pid_of_writer) == first
    assert not slow.done()
    assert await slow == first
    await database.close()


async def test_nobody_reads_the_password_among_the_processes(database: Database) -> None:
    """A command line may be read by all; the address goes by the socket."""
    command = " ".join(psutil.Process(await database.write(pid_of_writer)).cmdline())

    assert "storage.writer" in command
    assert "://" not in command


def _written_apart(url: str, silence_seconds: float) -> Database:
    """Return a database whose writer may be silent for so long."""
    writer = WriterProcess(url, silence_seconds=silence_seconds)
    if url.startswith("sqlite"):
        return SqliteDatabase(make_url(url), writer)
    return PostgresDatabase(read_postgres_url(url), writer)


_ASKS = """
import asyncio, sys, uvloop
from sqlalchemy import make_url
from storage.postgres import PostgresDatabase
from storage.postgres_url import read_postgres_url
from storage.sqlite import SqliteDatabase
from storage.writer.process import WriterProcess
from tests.support.written_apart import pid_after, pid_of_writer

async def ask():
    url = sys.argv[1]
    database = SqliteDatabase(make_url(url), WriterProcess(url, silence_seconds=4.0))
    first = await database.write(pid_of_writer)
    asked = asyncio.create_task(database.write(pid_after, 1.0))
    await asyncio.sleep(0.1)
    print("asked", flush=True)
    print(await asked == first, flush=True)
    await database.close()

uvloop.run(ask())
"""


def test_a_service_that_was_suspended_blames_no_writer(tmp_path: Path) -> None:
    """Time in which the service itself did not run, as the machine slept, is nobody's silence."""
    command = [sys.executable, "-c", _ASKS, f"sqlite:///{tmp_path}/test.db"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2], text=True) as service:
        assert service.stdout is not None
        assert service.stdout.readline() == "asked\n"
        service.send_signal(signal.SIGSTOP)
        time.sleep(5.0)  # longer than the writer may be silent
        service.send_signal(signal.SIGCONT)
        assert service.stdout.readline() == "True\n"


async def test_signals_to_the_group_leave_the_writer_to_the_service(database: Database) -> None:
    """Ctrl+C and a service manager's SIGTERM reach every process of a group: the service has records to drain first."""
    pid = await database.write(pid_of_writer)
    os.kill(pid, signal.SIGINT)
    os.kill(pid, signal.SIGTERM)

    assert await database.write(pid_of_writer) == pid


async def test_a_service_that_is_killed_takes_its_writer_along(tmp_path: Path) -> None:
    """No orphan holds the file when the service starts again."""
    program = f"from tests.support.written_apart import serve; serve('sqlite:///{tmp_path}/test.db')"
    service = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=subprocess.PIPE)
    assert service.stdout is not None
    pid = int(await service.stdout.readline())
    service.kill()
    await service.wait()
    await until_gone(pid)
