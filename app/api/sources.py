"""GET /api/v1/sources, /gaps and /rejects: how each source does, when it did not listen, what could not be used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse
from prometheus_client import CollectorRegistry
from starlette.responses import Response

from app.api.parameters import PageQuery, span_of
from app.api.replies import describes, json_reply, page_reply
from app.api.shapes import GapsPage, RejectsPage, SourcesList
from app.row_json import gap_json, open_gap_json, reason_json, reject_json, time_json
from ingest.coverage import Gap
from ingest.source_health import StreamState
from ingest.supervisor import SourceStatus
from ingest.times import rfc3339
from storage import queries
from storage.engine import Database

_DUPLICATES = "headrace_events_duplicate"

Kinds = dict[tuple[str, str], dict[str, int]]
OpenGap = Callable[[str, str], Gap | None]  # of a source and mode


def sources_router(
    database: Database,
    registry: CollectorRegistry,
    states: Callable[[], Sequence[SourceStatus]],
    open_gap: OpenGap,
    clock: Callable[[], datetime],
) -> APIRouter:
    """Sources, gaps and rejects."""
    router = APIRouter(prefix="/api/v1", tags=["sources"], default_response_class=JSONResponse)

    @router.get("/sources", responses=describes(SourcesList))
    async def list_sources() -> Response:
        """Every configured source and mode. Counts are this process's: received is the sum of the other six."""
        kinds = _duplicate_kinds(registry)
        now = clock()
        return json_reply(
            {
                "sources": [
                    _source_json(state, kinds) | {"open_gap": _lasting(open_gap(state.source, state.mode), now)}
                    for state in states()
                ]
            }
        )

    @router.get("/gaps", responses=describes(GapsPage, 422, 503))
    async def list_gaps(query: Annotated[PageQuery, Query()]) -> Response:
        """When nothing of a source and mode was listening, and why. The first start of a source opens no gap."""
        page = await database.read(queries.gaps_page, span_of(query), source=query.source)
        return page_reply("gaps", page, gap_json, lambda row: row.id)

    @router.get("/rejects", responses=describes(RejectsPage, 422, 503))
    async def list_rejects(query: Annotated[PageQuery, Query()]) -> Response:
        """What was authentic but could not become an event, with the bytes that were sent."""
        page = await database.read(queries.rejects_page, span_of(query), source=query.source)
        return page_reply("rejects", page, reject_json, lambda row: row.id)

    return router


def _source_json(status: SourceStatus, kinds: Kinds) -> dict[str, Any]:
    return {
        "source": status.source,
        "mode": status.mode,
        "product": status.product,
        "state": status.state,
        "since": rfc3339(status.since),
        "reason": reason_json(status.reason),
        "last_event_at": time_json(status.last_event_at),
        "last_byte_at": time_json(status.last_byte_at),
        "counts": dict(status.counts),
        "duplicate_kinds": kinds.get((status.source, status.mode), {}),
        "streams": list(map(_stream_json, status.streams)),
    }


def _stream_json(stream: StreamState) -> dict[str, Any]:
    return {
        "stream": stream.stream,
        "state": stream.state,
        "since": rfc3339(stream.since),
        "last_byte_at": time_json(stream.last_byte_at),
        "lost": stream.lost,
        "reason": reason_json(stream.reason),
        "next_attempt_at": time_json(stream.next_attempt_at),
    }


def _lasting(gap: Gap | None, now: datetime) -> dict[str, Any] | None:
    return None if gap is None else open_gap_json(gap, max((now - gap.since).total_seconds(), 0.0))


def _duplicate_kinds(registry: CollectorRegistry) -> Kinds:
    """How the first copies of each source's duplicates came."""
    kinds: Kinds = {}
    for family in registry.restricted_registry([f"{_DUPLICATES}_total"]).collect():
        for sample in family.samples:
            labels = sample.labels
            kinds.setdefault((labels["source"], labels["mode"]), {})[labels["kind"]] = int(sample.value)
    return kinds
