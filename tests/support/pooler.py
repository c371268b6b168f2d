"""Debian's pgbouncer: it gives each transaction to another connection, and forgets prepared statements."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support import run
from tests.support.postgres import Postgres, database_name
from tests.support.required import missing
from tests.support.server import PATIENCE_SECONDS, wait_until

_PROGRAM = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
_PORT = 6432
_CONFIG = """
[databases]
* = host={server} user=postgres
[pgbouncer]
listen_addr =
unix_socket_dir = {folder}
listen_port = {port}
auth_type = any
pool_mode = transaction
max_client_conn = 300
default_pool_size = {connections}
server_login_retry = 1
{more}
"""


@contextmanager
def pooled(server: Postgres, url: str, connections: int = 20) -> Iterator[str]:
    """Give the URL by which a server's database is reached through a pooler, which has so many connections to it."""
    if not Path(_PROGRAM).exists():
        missing("pgbouncer is not installed")
    folder = Path(tempfile.mkdtemp(prefix="b", dir=run.folder()))
    config = folder / "pgbouncer.ini"
    values = {"server": server.folder, "folder": folder, "port": _PORT, "connections": connections, "more": _more()}
    config.write_text(_CONFIG.format(**values))
    user = server.user if os.geteuid() == 0 else None
    if user:  # it does not run as root
        for part in (folder, config):
            shutil.chown(part, user)
        for part in (folder, run.folder()):
            part.chmod(0o755)
    process = subprocess.Popen([_PROGRAM, "-q", str(config)], user=user, cwd="/", stderr=subprocess.DEVNULL)
    try:
        wait_until((folder / f".s.PGSQL.{_PORT}").exists, PATIENCE_SECONDS, "pgbouncer does not start")
        yield f"postgresql://postgres:@/{database_name(url)}?host={folder}&port={_PORT}"
    finally:
        process.kill()
        process.wait()


def _more() -> str:
    """Return what a newer version has to be told to be as forgetful as an older one."""
    version = subprocess.run([_PROGRAM, "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
    newer = tuple(map(int, version.split(".")[:2])) >= (1, 21)
    return "max_prepared_statements = 0" if newer else ""
