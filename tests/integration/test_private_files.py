"""Who may read the files of a SQLite store: its owner, whatever the umask and whatever they were before."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import Connection

from storage import migrate as module
from storage.engine import open_database
from storage.migrate import migrate, newest_revision
from storage.private_files import make_private
from tests.support.stored import rows

MARK = "CREATE TABLE marks (mark)"


@pytest.fixture(autouse=True, params=[0o000, 0o022], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    """A process that leaves its files open to others."""
    before = os.umask(request.param)
    yield
    os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    """The permissions of each file in a folder."""
    return {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}


@pytest.mark.parametrize("write_apart", [False, True])
async def test_a_new_store_is_the_owners_alone(tmp_path: Path, *, write_apart: bool) -> None:
    """The database, its -wal and its -shm are 0600."""
    database = open_database(f"sqlite:///{tmp_path}/test.db", write_apart=write_apart)
    await migrate(database)
    await rows(database, "SELECT 1")

    assert modes(tmp_path) == dict.fromkeys(("test.db", "test.db-wal", "test.db-shm"), 0o600)
    await database.close()


async def test_a_read_makes_it_the_owners_alone_too(tmp_path: Path) -> None:
    """Whoever opens a store first, 0600 is what it becomes."""
    database = open_database(f"sqlite:///{tmp_path}/test.db")
    await rows(database, "SELECT 1")
    await database.close()

    assert modes(tmp_path) == {"test.db": 0o600}


async def test_an_open_store_of_ours_is_closed_to_others(tmp_path: Path) -> None:
    """Files that an earlier version left readable are 0600 once they are opened, also what a crash left."""
    path = tmp_path / "test.db"
    with closing(sqlite3.connect(path)) as earlier:
        earlier.execute("PRAGMA journal_mode=WAL")
        earlier.execute(MARK)
        for name in modes(tmp_path):
            os.chmod(tmp_path / name, 0o644)
        database = open_database(f"sqlite:///{path}")
        await rows(database, "SELECT 1 FROM marks")

        assert modes(tmp_path) == dict.fromkeys(("test.db", "test.db-wal", "test.db-shm"), 0o600)
        await database.close()


async def test_the_copy_before_a_migration_is_the_owners_alone(tmp_path: Path) -> None:
    """A copy holds what the store holds; one that an earlier attempt left open is closed to others too."""
    database = open_database(f"sqlite:///{tmp_path}/test.db")
    await migrate(database)
    copy = f"test.db.before-{newest_revision()}"
    for _ in range(2):
        await database.write(step_back)
        await migrate(database)
        assert modes(tmp_path)[copy] == 0o600
        os.chmod(tmp_path / copy, 0o644)
    await database.close()


async def test_copies_of_earlier_migrations_are_closed_to_others(tmp_path: Path) -> None:
    """What an earlier version left readable beside the store is 0600 at the next start; no other file is touched."""
    for name in ("test.db.before-0004", "test.db.mine", "other.db.before-0004"):
        (tmp_path / name).touch()
        os.chmod(tmp_path / name, 0o644)
    database = open_database(f"sqlite:///{tmp_path}/test.db")
    await rows(database, "SELECT 1")
    await database.close()

    kept = {"test.db.mine": 0o644, "other.db.before-0004": 0o644}
    assert modes(tmp_path) == kept | {"test.db": 0o600, "test.db.before-0004": 0o600}


def step_back(connection: Connection) -> None:
    """Bring a store to the schema before the newest one."""
    config = module._config()
    config.attributes["connection"] = connection
    command.downgrade(config, "-1")


def test_what_is_read_only_stays_so(tmp_path: Path) -> None:
    """Only what others may do is taken away."""
    (tmp_path / "test.db").touch()
    (tmp_path / "test.db").chmod(0o444)
    make_private(f"{tmp_path}/test.db")

    assert modes(tmp_path) == {"test.db": 0o400}


def test_what_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    """A folder, or a path that leads nowhere, is for SQLite to complain of."""
    before = stat.S_IMODE(tmp_path.stat().st_mode)
    make_private(str(tmp_path))
    make_private(f"{tmp_path}/none/test.db")

    assert stat.S_IMODE(tmp_path.stat().st_mode) == before
    assert not list(tmp_path.iterdir())
