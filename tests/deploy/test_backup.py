"""Backup and restore by the very commands of deploy/README.md, under load."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.deploy.promtool import DEPLOY
from tests.support import database
from tests.support.ledger import Ledger
from tests.support.oracle import Load, faults, plan, verify_balance, verify_flow
from tests.support.postgres import debian_programs, debian_server
from tests.support.required import missing
from tests.support.server import PATIENCE_SECONDS, Server

PATH = "/ingest/fleet"
CONFIG = '[store]\nurl = "{url}"\n[sources.fleet]\n[handlers.log]\ntype = "log"\n'

ALL = Ledger(bytes([1]) * 10**6)  # every number may have been sent


def command(beginning: str) -> str:
    """Return the command of the README that begins so: a block, or between backticks."""
    text = (DEPLOY / "README.md").read_text()
    found = re.search(rf"^({beginning}.*)$|`({beginning}[^`]*)`", text, re.MULTILINE)
    assert found is not None, f"no command `{beginning} …`"
    return found[1] or found[2]


def run(line: str, folder: Path, **variables: str) -> None:
    """Run a command in a shell, with Debian's PostgreSQL programs."""
    programs = debian_programs()
    path = f"{programs}:/usr/local/bin:/usr/bin:/bin" if programs else "/usr/local/bin:/usr/bin:/bin"
    done = subprocess.run(
        ["sh", "-c", line], cwd=folder, env={"PATH": path, **variables}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@contextmanager
def under_load(server: Server, folder: Path) -> Iterator[Load]:
    """A load of which some is stored when the block begins, and more comes while it lasts."""
    with Load(plan(server.url + PATH, "load", folder, connections=8)) as load:
        load.wait_for(lambda progress: progress.acknowledged > 300, PATIENCE_SECONDS, "no load")
        yield load
        before = load.progress.acknowledged
        load.wait_for(lambda progress: progress.acknowledged > before + 300, PATIENCE_SECONDS, "no load afterwards")
        load.stop()


def stored(url: str) -> int:
    """Return how many events a store holds. Raises AssertionError unless they are without a hole and balanced."""
    contents = database.read(url)
    assert not faults(contents, {"load": ALL})
    verify_balance(url)
    return len(contents.rows)


def test_sqlite(tmp_path: Path) -> None:
    """A copy that is taken under load is whole, and a server goes on with it."""
    with Server(tmp_path, CONFIG.format(url="sqlite:///headrace.db")) as server:
        with under_load(server, tmp_path):
            run(command("python3 -c"), tmp_path)
        assert server.terminate() == 0
        newest = stored(f"sqlite:///{tmp_path}/headrace.db")
        for file in tmp_path.glob("headrace.db*"):
            file.unlink()
        shutil.copy(tmp_path / "copy.db", tmp_path / "headrace.db")
        server.start()
        assert 300 < stored(f"sqlite:///{tmp_path}/copy.db") < newest
        verify_flow(server.url, PATH)


def test_postgresql(tmp_path: Path) -> None:
    """A dump that is taken under load is whole, and a server goes on with what it is restored to."""
    if debian_programs() is None:
        missing("Debian's package postgresql is not installed")
    url = debian_server().fresh_database()
    server = Server(tmp_path, CONFIG.format(url=url))
    server.migrate()
    with server, under_load(server, tmp_path):
        run(command("pg_dump"), tmp_path, DATABASE_URL=url)
    newest = stored(url)
    restored = debian_server().fresh_database()
    run(command("pg_restore"), tmp_path, DATABASE_URL=restored)
    assert 300 < stored(restored) < newest
    server.config.write_text(CONFIG.format(url=restored))
    with server:
        verify_flow(server.url, PATH)
