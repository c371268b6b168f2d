"""A PostgreSQL as Debian packages it, with its stock settings (fsync and jit are on): the one that users run."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

BIN = Path("/usr/lib/postgresql/15/bin")
_USER = "postgres"


class DebianPostgres:
    """A server on a unix socket in a folder of its own, run by the user `postgres` where we are root.

    Leaving the block ends it and takes the folder away.
    """

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="headrace-debian-"))
        self._data = self._folder / "data"
        if os.geteuid() == 0:
            os.chown(self._folder, pwd.getpwnam(_USER).pw_uid, -1)

    def __enter__(self) -> Self:
        self._run("initdb", "-D", str(self._data), "-U", _USER, "--auth=trust", "--encoding=UTF8")
        options = f"-c listen_addresses= -c unix_socket_directories={self._folder}"
        log = str(self._folder / "log")
        self._run("pg_ctl", "start", "-w", "-D", str(self._data), "-l", log, "-o", options)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._run("pg_ctl", "stop", "-w", "-m", "immediate", "-D", str(self._data))
        shutil.rmtree(self._folder)

    def fresh_database(self) -> str:
        """Create an empty database; its URL."""
        name = f"bench_{secrets.token_hex(6)}"
        self._execute(f'CREATE DATABASE "{name}"')
        return f"postgresql://{_USER}@/{name}?host={self._folder}"

    def drop_database(self, url: str) -> None:
        """Drop a database whoever is still connected to it."""
        name = url.partition("?")[0].rpartition("/")[2]
        self._execute(f'DROP DATABASE "{name}" WITH (FORCE)')

    def _execute(self, statement: str) -> None:
        command = ["-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", str(self._folder), "-U", _USER, "-c", statement]
        self._run("psql", *command)

    def _run(self, program: str, *arguments: str) -> None:
        as_user = ["runuser", "-u", _USER, "--"] if os.geteuid() == 0 else []
        command = [*as_user, str(BIN / program), *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=self._folder)


def installed() -> bool:
    """Return whether Debian's PostgreSQL is there."""
    return (BIN / "initdb").exists()
