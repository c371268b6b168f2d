"""One server for a SQLite file: its lock lies beside the file, and goes with the process however that ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from ingest.errors import ConfigurationError
from storage.engine import parse_url


@contextmanager
def served_alone(store_url: str) -> Iterator[None]:
    """Hold the lock of a SQLite file inside the block; replicas share PostgreSQL. Raises ConfigurationError.

    Commands take no lock: SQLite's own is enough for what they read and write. Where no file can be made beside it,
    SQLite itself says what is wrong.
    """
    url = parse_url(store_url)
    if url.get_backend_name() != "sqlite":
        yield
        return
    file = os.path.realpath((url.database or "").removeprefix("file:"))
    try:
        # Beside it: where flock is made of record locks (NFS) it would be in the way of SQLite's own.
        lock = os.open(f"{file}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        yield
        return
    try:
        _lock(lock, file)
        yield
    finally:
        os.close(lock)


def _lock(lock: int, file: str) -> None:
    """Lock, and leave the number of this process for whoever is refused."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        process = os.pread(lock, 20, 0).decode(errors="replace").strip() or "another one"
        raise ConfigurationError(
            f"store.url: {file} is served by a process already ({process}): stop that one, name another file, "
            "or use PostgreSQL, which several servers can share"
        ) from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
