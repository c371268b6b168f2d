"""Two servers of Debian's PostgreSQL on 127.0.0.1: a primary, and a standby that has all that was committed."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.support import run
from tests.support.postgres import Postgres, database_name, debian_programs, of_debian
from tests.support.required import missing
from tests.support.server import free_port

# Until the standby has begun to stream, a commit waits for it. Its own settings are those from before.
_SYNCHRONOUS = ("ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()")
_WRITES_SOMETHING = "CREATE TABLE awaited ()"


@dataclass(frozen=True)
class Pair:
    """The servers, and a database by its name."""

    primary: Postgres
    standby: Postgres
    name: str

    @property
    def url(self) -> str:
        """The database at whichever of the two takes writes."""
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in (self.primary, self.standby))
        return f"postgresql://postgres@{hosts}/{self.name}?target_session_attrs=read-write"

    @property
    def url_of_standby(self) -> str:
        """The database at the standby."""
        return f"postgresql://postgres@127.0.0.1:{self.standby.port}/{self.name}"

    def promote(self) -> None:
        """Let the standby take writes; return when it does."""
        self.standby.run("pg_ctl", "-w", "-D", str(self.standby.folder), "promote")


@contextmanager
def replicated() -> Iterator[Pair]:
    """Give both at work: what a commit wrote is on the standby's disk, too, when it returns."""
    if debian_programs() is None:
        missing("Debian's package postgresql is not installed")
    folder = Path(tempfile.mkdtemp(prefix="replicated-", dir=run.folder()))
    run.folder().chmod(0o755)  # PostgreSQL does not run as root
    primary = of_debian(folder / "primary", free_port())
    standby = Postgres(folder / "standby", primary.binaries, primary.user, free_port())
    try:
        primary.start()
        name = database_name(primary.fresh_database())
        copied = ("-h", "127.0.0.1", "-p", str(primary.port), "-U", "postgres", "-R", "-c", "fast")
        if primary.user:
            shutil.chown(folder, primary.user)
        primary.run("pg_basebackup", *copied, "-D", str(standby.folder))
        standby.start()
        for statement in (*_SYNCHRONOUS, _WRITES_SOMETHING):
            primary.execute(statement)
        yield Pair(primary, standby, name)
    finally:
        for server in (primary, standby):
            with suppress(OSError, psutil.NoSuchProcess):  # it did not start, or is gone
                server.kill()
