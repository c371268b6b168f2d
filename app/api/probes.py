"""/livez, /readyz and /metrics: for whoever restarts, routes to and watches the process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from fastapi import APIRouter
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.requests import Request
from starlette.responses import Response

from app.api.problems import problem
from app.api.replies import describes, json_reply, problem_reply
from app.api.sources import shown_reason
from ingest.supervisor import SourceStatus, State

_DOWN = (State.FAILED, State.DOWN)
_METRICS = 'headrace_events_stored_total{mode="webhook",source="fleet"} 1042.0\n'


class Livez(msgspec.Struct, frozen=True):
    """The process answers."""

    live: bool


_LIVE = Livez(live=True)


class SourceDown(msgspec.Struct, frozen=True):
    """A source that cannot receive now."""

    source: str
    mode: str
    state: str
    reason: str | None


class HandlerFailing(msgspec.Struct, frozen=True):
    """A handler that delivers nothing because of its own code."""

    handler: str
    reason: str


class SecretUnread(msgspec.Struct, frozen=True):
    """A secret whose file cannot be read any more: its last text stays in force."""

    secret: str
    reason: str


class SpoolWaiting(msgspec.Struct, frozen=True):
    """The records that wait in this replica's spool until the database is back, or has taken them."""

    records: int
    bytes: int
    oldest_seconds: float


class Readyz(msgspec.Struct, frozen=True):
    """Traffic is welcome. `spool`: null where none is configured."""

    ready: bool
    sources_down: list[SourceDown]
    handlers_failing: list[HandlerFailing]
    secrets_unread: list[SecretUnread]
    spool: SpoolWaiting | None = None


@dataclass(frozen=True, slots=True)
class Readiness:
    """The state that only the process itself knows: that it is about to stop, and why nothing can be stored, if so.

    `handlers_failing`: which handlers fail by their own code, and why. `secrets_unread`: which secrets keep their last
    text because their files cannot be read, and why. `spool`: what waits there, where there is one: records, bytes, and
    the seconds of the oldest.
    """

    draining: bool
    store_fault: str | None = None
    handlers_failing: Mapping[str, str] = field(default_factory=dict)
    secrets_unread: Mapping[str, str] = field(default_factory=dict)
    spool: tuple[int, int, float] | None = None

    @property
    def ready(self) -> bool:
        """Whether to send traffic here."""
        return not self.draining and self.store_fault is None


def probes_router(
    registry: CollectorRegistry,
    statuses: Callable[[], Sequence[SourceStatus]],
    readiness: Callable[[], Readiness],
) -> APIRouter:
    """Make the routes of liveness, readiness and metrics."""
    router = APIRouter(tags=["operation"], default_response_class=JSONResponse)

    @router.get("/livez", responses={200: describes(_LIVE)[200]})
    @router.head("/livez", include_in_schema=False)
    async def livez() -> Response:
        """The process answers."""
        return json_reply(_LIVE)

    @router.get("/readyz", responses={200: describes(Readyz(True, [], [], []))[200], 503: problem_reply(503)})
    @router.head("/readyz", include_in_schema=False)
    async def readyz() -> Response:
        """Send traffic here. What is down or failing is named, but only the store and the process decide."""
        known = readiness()
        failing = [HandlerFailing(label, why) for label, why in known.handlers_failing.items()]
        down = [_source_down(status) for status in statuses() if status.state in _DOWN]
        unread = [SecretUnread(key, why) for key, why in known.secrets_unread.items()]
        spool = None if known.spool is None else SpoolWaiting(*known.spool)
        named: dict[str, Any] = {
            "sources_down": down,
            "handlers_failing": failing,
            "secrets_unread": unread,
            "spool": spool,
        }
        if known.draining:
            return problem(503, "Not ready: draining.", ready=False, reason="draining", **named)
        if known.store_fault is not None:
            detail, reason = f"Not ready: the store takes nothing, {known.store_fault}.", "store unreachable"
            return problem(503, detail, ready=False, reason=reason, **named)
        return json_reply(Readyz(True, down, failing, unread, spool))

    @router.get(
        "/metrics",
        response_class=PlainTextResponse,
        responses={
            200: {"description": "Prometheus text", "content": {"text/plain": {"example": _METRICS}}},
            401: problem_reply(401),
            403: problem_reply(403),
        },
    )
    async def metrics(request: Request) -> Response:
        """Every metric, in the text format the scraper asks for."""
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"Content-Type": content_type, "Cache-Control": "no-store"})

    return router


def _source_down(status: SourceStatus) -> SourceDown:
    return SourceDown(status.source, status.mode, status.state, shown_reason(status.reason))
