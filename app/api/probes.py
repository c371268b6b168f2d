"""/livez, /readyz and /metrics: for whoever restarts, routes to and watches the process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.requests import Request
from starlette.responses import Response

from app.api import examples
from app.api.problems import problem
from app.api.replies import describes, json_reply, problem_reply
from app.api.shapes import Live, Ready
from app.row_json import reason_json
from ingest.supervisor import SourceStatus, State

_DOWN = (State.FAILED, State.DOWN)
_PROBE = ["GET", "HEAD"]


@dataclass(frozen=True, slots=True)
class Readiness:
    """What only the process itself knows: whether it is about to stop, and why nothing can be stored, if so.

    `handlers_failing`: which handlers fail by their own code, and why.
    """

    draining: bool
    store_fault: str | None = None
    handlers_failing: Mapping[str, str] = field(default_factory=dict)


def probes_router(
    registry: CollectorRegistry,
    states: Callable[[], Sequence[SourceStatus]],
    readiness: Callable[[], Readiness],
) -> APIRouter:
    """Liveness, readiness and metrics."""
    router = APIRouter(tags=["operation"], default_response_class=JSONResponse)

    @router.get("/livez", responses={200: describes(Live)[200]})
    @router.head("/livez", include_in_schema=False)
    async def livez() -> Response:
        """The process answers."""
        return json_reply({"live": True})

    @router.get("/readyz", responses={200: describes(Ready)[200], 503: problem_reply(503)})
    @router.head("/readyz", include_in_schema=False)
    async def readyz() -> Response:
        """Send traffic here. What is down or failing is named, but only the store and the process decide."""
        ready = readiness()
        failing = [{"handler": label, "reason": why} for label, why in ready.handlers_failing.items()]
        down = [_down_json(state) for state in states() if state.state in _DOWN]
        named: dict[str, Any] = {"sources_down": down, "handlers_failing": failing}
        if ready.draining:
            return problem(503, "Not ready: draining.", ready=False, reason="draining", **named)
        if ready.store_fault is not None:
            detail, reason = f"Not ready: the store takes nothing, {ready.store_fault}.", "store unreachable"
            return problem(503, detail, ready=False, reason=reason, **named)
        return json_reply({"ready": True, **named})

    @router.get(
        "/metrics",
        response_class=PlainTextResponse,
        responses={
            200: {"description": "Prometheus text", "content": {"text/plain": {"example": examples.METRICS}}},
            401: problem_reply(401),
            403: problem_reply(403),
        },
    )
    async def metrics(request: Request) -> Response:
        """Every metric, in the text format the scraper asks for."""
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"Content-Type": content_type, "Cache-Control": "no-store"})

    return router


def _down_json(status: SourceStatus) -> dict[str, Any]:
    return {"source": status.source, "mode": status.mode, "state": status.state, "reason": reason_json(status.reason)}
