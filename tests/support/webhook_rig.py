"""A webhook source on a real SQLite store, asked as an ASGI server would ask it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from ingest.decoding import DecodingThread
from ingest.endpoint_coverage import EndpointCoverageRules
from ingest.event import Origin
from ingest.formats.particle import ParticleFormat
from ingest.inbox import Inbox
from ingest.intake import SourceIntake
from ingest.metrics import Metrics
from ingest.protocols import Store
from ingest.sources.webhook import credentials
from ingest.sources.webhook.source import WebhookRules, WebhookSource
from ingest.sources.webhook.unfinished import UnfinishedBodies
from storage.auth_failures import add_auth_failures
from storage.coverage import SqlCoverage
from storage.engine import open_database
from storage.migrate import migrate
from storage.store import SqlStore
from tests.support.gated_database import GatedDatabase

MAX_BODY = 64 * 1024
DISCARDED = 10 * MAX_BODY


@dataclass(frozen=True, slots=True)
class Reply:
    """What the sender heard."""

    code: int
    headers: dict[str, str]
    body: bytes


class WebhookRig:
    """The source `fleet` with everything behind it."""

    def __init__(
        self,
        database: GatedDatabase,
        *,
        auth: credentials.Credentials,
        upkeep: credentials.KeyRefresher | None,
        refuse_rejects: bool,
        forbids: Callable[[Mapping[str, str]], bool],
        spoil: Callable[[Store], Store],
        max_events: int,
        unfinished_bytes: int,
        max_body: int,
        receipt: Sequence[str],
    ) -> None:
        self.database = database
        self.metrics = Metrics(CollectorRegistry())
        self.inbox = Inbox(
            spoil(SqlStore(database, _now)),
            self.metrics,
            max_events=max_events,
            max_bytes=10**9,
            patience_seconds=5,
        )
        origin = Origin("tracker", "fleet", "webhook")
        self.source = WebhookSource(
            origin,
            WebhookRules(max_body, refuse_rejects, forbids, DISCARDED, EndpointCoverageRules(extend=0.01), receipt),
            auth,
            ParticleFormat(origin, ("hook-sent/",)),
            SourceIntake(self.inbox, self.metrics, "fleet", "webhook"),
            UnfinishedBodies(unfinished_bytes),
            DecodingThread(),
            SqlCoverage(database),
            self.metrics,
            _now,
            upkeep=upkeep,
            tally=lambda source, count: database.write(add_auth_failures, source, count),
        )

    async def send(
        self,
        *chunks: bytes,
        method: str = "POST",
        headers: Mapping[str, str] | Sequence[tuple[str, str]] = (),
        query: bytes = b"",
        hangs_up: bool = False,
    ) -> Reply | None:
        """One request in pieces; the answer, or None where the source gave none. `hangs_up`: before the last piece."""
        lines = headers.items() if isinstance(headers, Mapping) else headers
        pieces: list[dict[str, Any]] = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
        pieces.append({"type": "http.disconnect"} if hangs_up else {"type": "http.request", "more_body": False})
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return pieces.pop(0)

        async def send(message: Any) -> None:
            sent.append(message)

        names = [(name.lower().encode(), value.encode("latin-1")) for name, value in lines]
        scope = {"type": "http", "method": method, "path": "/ingest/fleet", "query_string": query, "headers": names}
        await self.source(scope, receive, send)
        return _reply(*sent) if sent else None

    def value(self, name: str, **labels: str) -> float | None:
        """A sample of a metric."""
        return self.metrics.registry.get_sample_value(f"headrace_{name}", {"source": "fleet"} | labels)


@asynccontextmanager
async def webhook_rig(
    folder: Path,
    *,
    auth: credentials.Credentials | None = None,
    upkeep: credentials.KeyRefresher | None = None,
    refuse_rejects: bool = False,
    forbids: Callable[[Mapping[str, str]], bool] = lambda headers: False,
    spoil: Callable[[Store], Store] = lambda store: store,
    max_events: int = 12_000,
    unfinished_bytes: int = 10**9,
    max_body: int = MAX_BODY,
    receipt: Sequence[str] = (),
) -> AsyncIterator[WebhookRig]:
    """A rig whose inbox runs. `spoil` may put something between the inbox and the store."""
    database = GatedDatabase(open_database(f"sqlite:///{folder}/test.db"))
    await migrate(database)
    rig = WebhookRig(
        database,
        auth=auth or credentials.Anyone(),
        upkeep=upkeep,
        refuse_rejects=refuse_rejects,
        forbids=forbids,
        spoil=spoil,
        max_events=max_events,
        unfinished_bytes=unfinished_bytes,
        max_body=max_body,
        receipt=receipt,
    )
    committing = asyncio.create_task(rig.inbox.run())
    try:
        yield rig
    finally:
        rig.database.open_gate()
        rig.inbox.close()
        await committing
        await database.close()


def _reply(start: Mapping[str, Any], body: Mapping[str, Any]) -> Reply:
    headers = {name.decode(): value.decode() for name, value in start["headers"]}
    return Reply(start["status"], headers, body.get("body", b""))


def _now() -> datetime:
    return datetime.now(UTC)
