"""Keeps the files of a SQLite database from all but their owner: they hold what devices sent."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from glob import escape, glob

_MODE = 0o600


def make_private(path: str) -> None:
    """Make the database file 0600, whatever the umask, and its -wal and -shm where they are: new ones have its mode.

    So are the copies that earlier migrations left beside it; what is read-only stays so. A database that is not there
    is made, empty, so that at no time anybody else can open it. (To open one that is there and close it again would end
    SQLite's locks on it.) Files of another user are left alone, as are file systems that know no modes. Never raises:
    what is wrong with a path SQLite says itself.
    """
    with suppress(OSError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE))
    for file in (path, f"{path}-wal", f"{path}-shm", *glob(f"{escape(path)}.before-*")):
        with suppress(OSError):
            found = os.stat(file)
            mode = stat.S_IMODE(found.st_mode)
            if stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and mode & ~_MODE:
                os.chmod(file, mode & _MODE)
