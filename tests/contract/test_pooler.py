"""A pooler that gives each transaction to another connection, and forgets prepared statements: Headrace works on it."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from ingest.errors import StoreUnavailable
from ingest.event import Outcome
from storage.engine import Database, open_database
from storage.feed import SqlFeed
from storage.migrate import migrate, require_newest
from storage.store import SqlStore
from tests.support.fresh import POSTGRES, bare_store
from tests.support.postgres import database_name, session_server
from tests.support.records import NOW, numbered
from tests.support.required import missing
from tests.support.server import PATIENCE_SECONDS

_PROGRAM = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
_CONFIG = """
[databases]
* = host={server} user=postgres
[pgbouncer]
listen_addr =
unix_socket_dir = {folder}
listen_port = 6432
auth_type = any
pool_mode = transaction
default_pool_size = 3
{more}
"""


@pytest.fixture
def pooled_url(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Iterator[str]:
    """An empty database behind a pgbouncer that keeps no prepared statement."""
    if not Path(_PROGRAM).exists():
        missing("pgbouncer is not installed")
    folder = tmp_path_factory.mktemp("b")
    server = session_server()
    config = folder / "pgbouncer.ini"
    config.write_text(_CONFIG.format(server=server.folder, folder=folder, more=_more()))
    user = server.user if os.geteuid() == 0 else None
    if user:  # it does not run as root
        for part in (folder, config):
            shutil.chown(part, user)
        for part in (folder, *folder.parents[:-2]):
            part.chmod(0o755)
    process = subprocess.Popen([_PROGRAM, "-q", str(config)], user=user, cwd="/", stderr=subprocess.DEVNULL)
    try:
        name = database_name(bare_store(POSTGRES, tmp_path))
        yield f"postgresql://postgres:@/{name}?host={folder}&port=6432"
    finally:
        process.kill()
        process.wait()


def _more() -> str:
    """What a newer version has to be told to be as forgetful as an older one."""
    version = subprocess.run([_PROGRAM, "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
    newer = tuple(map(int, version.split(".")[:2])) >= (1, 21)
    return "max_prepared_statements = 0" if newer else ""


@pytest.fixture
async def two(pooled_url: str) -> AsyncIterator[list[Database]]:
    """Two processes' connections through the pooler, to the newest schema."""
    two = [open_database(pooled_url) for _ in range(2)]
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await _answers(two[0]):  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.02)
    await migrate(two[0])
    yield two
    for database in two:
        await database.close()


async def _answers(database: Database) -> bool:
    try:
        await database.read(lambda connection: None)
    except StoreUnavailable:
        return False
    return True


async def test_two_servers_work_behind_it(two: list[Database]) -> None:
    """Commits and reads of two processes, all at once on a few connections, succeed."""
    stores = [SqlStore(database, lambda: NOW) for database in two]
    commits = [stores[number % 2].commit(numbered(2, 2 * number)) for number in range(40)]
    reads = [SqlFeed(database).read(0, 100) for database in two * 10]

    answers, _ = await asyncio.gather(asyncio.gather(*commits), asyncio.gather(*reads))

    assert [list(commit.outcomes) for commit in answers] == [[Outcome.STORED] * 2] * 40
    assert [event.position for event in await SqlFeed(two[0]).read(0, 100)] == list(range(1, 81))


async def test_each_command_works_behind_it(two: list[Database], pooled_url: str) -> None:
    """Commands, each with connections of its own, one after another, all find what they ask for."""
    await SqlStore(two[0], lambda: NOW).commit(numbered(3))
    for _ in range(6):
        database = open_database(pooled_url)
        await require_newest(database)
        assert len(await SqlFeed(database).read(0, 100)) == 3
        await database.close()
