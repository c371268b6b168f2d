"""Transactions for another process: it has to find them by name, and it does not know the test files."""

from __future__ import annotations

import asyncio
import os
import sys
import time

from sqlalchemy import Connection, text

from storage.engine import open_database
from storage.transactions import transaction


@transaction
def pid_of_writer(_connection: Connection) -> int:
    """The process that this runs in."""
    return os.getpid()


@transaction
def pid_after(_connection: Connection, seconds: float) -> int:
    """The process that this runs in, for so long."""
    time.sleep(seconds)
    return os.getpid()


@transaction
def move_head(connection: Connection, position: int) -> int:
    """Write, without another word; how many rows it was."""
    return connection.execute(text("UPDATE head SET position = :position"), {"position": position}).rowcount


@transaction
def asleep(connection: Connection, seconds: float) -> int:
    """Let PostgreSQL take its time; the process that this runs in."""
    connection.execute(text("SELECT pg_sleep(:seconds)"), {"seconds": seconds})
    return os.getpid()


@transaction
def broken(connection: Connection) -> None:
    """A fault of ours after something was written."""
    connection.execute(text("UPDATE head SET position = 999"))
    raise ZeroDivisionError("by zero")


@transaction
def refused(_connection: Connection) -> None:
    """What the database does with data it cannot take."""
    raise OverflowError


def serve(url: str) -> None:
    """A service that has written, says which process did it, and is there for a minute."""

    async def write() -> int:
        return await open_database(url, write_apart=True).write(pid_of_writer)

    sys.stdout.write(f"{asyncio.run(write())}\n")
    sys.stdout.flush()
    time.sleep(60)
