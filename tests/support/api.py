"""An API on a real SQLite database, and the values its tests fill it with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import msgspec
from fastapi import FastAPI
from sqlalchemy import insert, select

from app.api import HandlersHere, Readiness, create_api
from app.redriving import BackgroundRedrives
from ingest.coverage import Gap
from ingest.event import Event, Record
from ingest.metrics import Metrics
from ingest.settings.secret import Secret
from ingest.sources.webhook.request_log import RecentRequests
from ingest.supervisor import SourceStatus, State
from storage.engine import Database
from storage.queries.device_rows import Silences
from storage.rows import to_micros
from storage.store import SqlStore
from storage.tables import cursors, deliveries

NOW = datetime(2026, 7, 28, 16, 53, 5, 702_999, tzinfo=UTC)
PUBLISHED = datetime(2026, 7, 28, 16, 53, 5, 616_000, tzinfo=UTC)
WEBHOOKS = [("/ingest/fleet", "fleet"), ("/hooks/other", "other")]
COUNTS = {"received": 8, "stored": 5, "duplicate": 1, "rejected": 1, "ignored": 0, "deferred": 0, "in_flight": 1}


@dataclass(frozen=True, slots=True)
class Rules:
    """An `[access]` table."""

    read_tokens: tuple[Secret, ...] = ()
    admin_tokens: tuple[Secret, ...] = ()
    open: bool = False
    open_metrics: bool = False
    action_token: Secret | None = field(default_factory=lambda: Secret("made"))


@dataclass
class World:
    """A server on loopback, and the strings it hangs by."""

    database: Database
    metrics: Metrics
    rules: Rules = field(default_factory=Rules)
    states: list[SourceStatus] = field(default_factory=list)
    open_gaps: dict[tuple[str, str], Gap] = field(default_factory=dict)
    fault: Exception | None = None
    draining: bool = False
    store_fault: str | None = None
    redrives: BackgroundRedrives = field(init=False)
    failing: dict[str, str] = field(default_factory=dict)
    requests: dict[str, RecentRequests] = field(default_factory=dict)
    handlers: HandlersHere = field(default_factory=HandlersHere)

    def __post_init__(self) -> None:
        """Redrive on the same database."""
        self.redrives = BackgroundRedrives(self.database)

    def api(self) -> FastAPI:
        """The application."""
        return create_api(
            database=self.database,
            registry=self.metrics.registry,
            access=self.rules,
            loopback=True,
            source_states=self._source_states,
            open_gap=lambda source, mode: self.open_gaps.get((source, mode)),
            readiness=lambda: Readiness(
                draining=self.draining, store_fault=self.store_fault, handlers_failing=self.failing
            ),
            webhooks=WEBHOOKS,
            handlers=self.handlers,
            redrives=self.redrives,
            graces={"fleet": 60.0},
            clock=lambda: NOW,
            silences=lambda: Silences(to_micros(NOW), {"fleet": 7_200_000_000}),
            recent_requests=self.requests.get,
        )

    def client(self, **headers: str) -> httpx.AsyncClient:
        """A client on the same machine."""
        transport = httpx.ASGITransport(self.api(), raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://localhost:8000", headers=headers)

    async def commit(self, *records: Record) -> list[Event]:
        """Commit the records; the new events with their positions."""
        return list((await SqlStore(self.database, lambda: NOW).commit(records)).events())

    async def give_up(self, *positions: int) -> None:
        """A running handler `alerts` at position 2, for which the events at these positions are dead letters."""
        lease = {"handler": "alerts", "position": 2, "epoch": 1, "holder": "me", "expires_at": 4_000_000_000_000_000}
        rows = [
            {"handler": "alerts", "position": position, "attempts": 3, "first_failed_at": 1, "error": "boom"}
            for position in positions
        ]
        await self.database.write(lambda connection: connection.execute(insert(cursors).values(lease)) and None)
        if rows:
            await self.database.write(lambda connection: connection.execute(insert(deliveries), rows) and None)

    async def dead(self) -> Sequence[int]:
        """Where dead letters are left."""
        query = select(deliveries.c.position).where(deliveries.c.due_at.is_(None)).order_by(deliveries.c.position)
        return await self.database.read(lambda connection: connection.execute(query).scalars().all())

    def _source_states(self) -> list[SourceStatus]:
        if self.fault is not None:
            raise self.fault
        return self.states


def id_at(published_at: datetime, number: int = 0) -> UUID:
    """An id as an event published then has it."""
    return UUID(int=int(published_at.timestamp() * 1000) << 80 | 0x8B529F0E3C5A7D1E2F40 + number)


EVENT = Event(
    id=id_at(PUBLISHED),
    product="tracker",
    device="e00fce682e79a004f1e69a2b",
    name="temperature",
    data=b'{"t":21.5}',
    content_type="application/json",
    published_at=PUBLISHED,
    received_at=NOW,
    source="fleet",
    mode="webhook",
    attributes={"fw_version": "91", "public": "false"},
)


def an_event(number: int = 0, **fields: Any) -> Event:
    """The event of the contract, or one some seconds later, or one like it."""
    at = PUBLISHED + timedelta(seconds=number)
    return msgspec.structs.replace(EVENT, **{"id": id_at(at, number), "published_at": at} | fields)


def a_status(source: str = "fleet", state: State = State.RUNNING, reason: str | None = None) -> SourceStatus:
    """How a source does."""
    return SourceStatus(source, "webhook", "tracker", state, NOW, reason, NOW, None, COUNTS)


def assert_problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    """An RFC 9457 problem with this status; its members."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    return body
