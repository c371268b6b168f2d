"""PostgreSQL's partitions in small, so that a test fills some of them."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection

from storage import bulk, partitions
from storage.engine import Database
from storage.partitions import Partition
from storage.rows import to_micros
from tests.support.records import NOW

ROWS = 1024


async def small_partitions(database: Database, monkeypatch: pytest.MonkeyPatch, rows: int = ROWS) -> None:
    """Give an empty database partitions of so many positions, of which two are made ahead."""
    monkeypatch.setattr(partitions, "SMALLEST", rows)
    monkeypatch.setattr(partitions, "LARGEST", rows)
    await database.write(_replace, rows)
    await database.write(partitions.make_ahead, to_micros(NOW))


def _replace(connection: Connection, rows: int) -> None:
    for partition in partitions.attached(connection)[1:]:
        bulk.run(connection, f"DROP TABLE {partition.name}")
    partitions.add(connection, Partition("events_p1", 1, rows))


def names(connection: Connection) -> list[str]:
    """Return the partitions that are attached, in order."""
    return [partition.name for partition in partitions.attached(connection)]
