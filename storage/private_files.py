"""Keeps the files of a SQLite database from all but their owner: they hold what devices sent."""

from __future__ import annotations

import os
import stat
from contextlib import suppress

_MODE = 0o600


def make_private(path: str) -> None:
    """Make the database file 0600, whatever the umask, and its -wal and -shm where they are: new ones have its mode.

    One that is not there is made, empty, so that at no time anybody else can open it. (To open one that is there and
    close it again would end SQLite's locks on it.) Files of another user are left alone, as are file systems that know
    no modes. Never raises: what is wrong with a path SQLite says itself.
    """
    with suppress(OSError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE))
    for file in (path, f"{path}-wal", f"{path}-shm"):
        with suppress(OSError):
            found = os.stat(file)
            if stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) != _MODE:
                os.chmod(file, _MODE)
