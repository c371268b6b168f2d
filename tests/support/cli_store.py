"""A store that the product itself filled, and what the commands print of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from app.cli import run
from ingest.deliveries import Parked
from ingest.event import Event, Record
from storage.cursors import SqlCursors
from storage.engine import open_database
from storage.migrate import migrate
from storage.store import SqlStore

START = datetime(2026, 7, 28, 12, tzinfo=UTC)


def id_of(number: int) -> UUID:
    """The id of the event of this number: as in every id, the time of publication comes first."""
    return UUID(int=((int(START.timestamp()) + number) * 1000 << 80) + number)


def event(number: int, *, device: str | None = "dev-1", name: str = "temperature", data: bytes | None = b"1") -> Event:
    """The event of this number, published so many seconds after START."""
    at = START + timedelta(seconds=number)
    return Event(
        id=id_of(number),
        product="tracker",
        device=device,
        name=name,
        data=data,
        content_type="text/plain",
        published_at=at,
        received_at=at,
        source="fleet",
        mode="webhook",
        attributes={},
    )


def fill(*records: Record, dead: Sequence[Parked] = (), handler: str = "alerts") -> None:
    """Make the store in this folder, with these records and these dead letters."""

    async def work() -> None:
        database = open_database("sqlite:///headrace.db")
        await migrate(database)
        if records:
            await SqlStore(database, lambda: START).commit(records)
        if dead:
            cursor = await SqlCursors(database).acquire(handler, holder="test", begin="beginning")
            assert cursor is not None
            await cursor.advance(max(row.position for row in dead), dead)
            await cursor.release()
        await database.close()

    asyncio.run(work())


def dead_letter(position: int, error: str = "ValueError: no such rule", cause: str | None = None) -> Parked:
    """A delivery that was given up."""
    return Parked(position, "dev-1", attempts=3, first_failed_at=START, due_at=None, error=error, cause=cause)


def shown(capsys: pytest.CaptureFixture[str], command: str) -> list[str]:
    """The lines that a command prints, with single spaces."""
    assert run(command.split()) == 0
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def asked(capsys: pytest.CaptureFixture[str], command: str) -> Any:
    """The JSON document that a command prints."""
    assert run([*command.split(), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def positions(document: Any) -> list[int]:
    """The positions of the events in a document."""
    return [row["position"] for row in document["events"]]
