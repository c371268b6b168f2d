"""GET /api/v1/sources, /gaps, /losses and /rejects: how each source does, and what it did not bring."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, NamedTuple

from fastapi import APIRouter, HTTPException, Query
from fastapi.responses import JSONResponse
from msgspec import Struct
from prometheus_client import CollectorRegistry
from starlette.responses import Response

from app.api.parameters import EchoQuery, LossQuery, PageQuery, span_of
from app.api.replies import describes, describes_list, describes_page, json_reply, page_reply
from app.settings import masked_text
from ingest.coverage import Gap
from ingest.source_health import StreamState
from ingest.sources.webhook.request_log import RecentRequests, RequestRow
from ingest.supervisor import SourceStatus
from ingest.times import Time, rfc3339
from storage.engine import Database
from storage.queries import gaps, hook_echoes, losses, rejects
from storage.queries.gaps import OpenGap

_DUPLICATES = "headrace_events_duplicate"
_HOOK_ECHOES = "headrace_hook_echoes"
_AUTH_FAILURES = "headrace_auth_failures"

Kinds = dict[tuple[str, str], dict[str, int]]


class _Counted(NamedTuple):
    """What this process counted, by source and mode, and by source."""

    kinds: Kinds
    hook_echoes: Kinds
    auth_failures: dict[str, int]


class StreamRow(Struct, frozen=True, kw_only=True):
    """One connection of a source that listens. `lost` and `reason`: why it last ended."""

    stream: int
    state: str
    since: Time
    last_byte_at: Time | None
    lost: str | None
    reason: str | None
    next_attempt_at: Time | None


class SourceRow(Struct, frozen=True, kw_only=True):
    """One source and mode. `counts` are this process's: received is the sum of the other six. `auth_failures` are its
    webhook requests with bad or no credentials, which are none of these. `hook_echoes` is the vendor's own word on its
    webhooks, by what became of them, as this source and mode heard it.
    """

    source: str
    mode: str
    product: str
    state: str
    since: Time
    reason: str | None
    last_event_at: Time | None
    last_byte_at: Time | None
    counts: Mapping[str, int]
    duplicate_kinds: Mapping[str, int]
    auth_failures: int
    hook_echoes: Mapping[str, int]
    streams: Sequence[StreamRow]
    open_gap: OpenGap | None


def sources_router(
    database: Database,
    registry: CollectorRegistry,
    statuses: Callable[[], Sequence[SourceStatus]],
    open_gap: Callable[[str, str], Gap | None],
    clock: Callable[[], datetime],
    recent_requests: Callable[[str], RecentRequests | None],
) -> APIRouter:
    """Make the routes of sources, gaps, losses and rejects.

    `open_gap`: of a source and mode, as far as this process knows. `recent_requests`: of a label; None where there is
    no such source.
    """
    router = APIRouter(prefix="/api/v1", tags=["sources"], default_response_class=JSONResponse)

    @router.get("/sources", responses=describes_list("sources", *_EXAMPLES))
    async def list_sources() -> Response:
        """Every configured source and mode. Counts are this process's: received is the sum of the other six."""
        kinds, echoes = _by_label(registry, _DUPLICATES, "kind"), _by_label(registry, _HOOK_ECHOES, "outcome")
        counted, now = _Counted(kinds, echoes, _auth_failures(registry)), clock()
        rows = [_source_row(status, counted, open_gap(status.source, status.mode), now) for status in statuses()]
        return json_reply({"sources": rows})

    @router.get("/sources/{label}/requests", responses=describes(_RECENT_EXAMPLE, 404, 422))
    async def list_requests(label: str) -> Response:
        """The last ten webhook requests of this process that were accepted, and refused, with the reason.

        Of headers and query only what is never secret is shown.
        """
        recent = recent_requests(label)
        if recent is None:
            raise HTTPException(404, "There is no source of this name.")
        return json_reply(recent)

    @router.get("/gaps", responses=describes_page("gaps", gaps.EXAMPLE, 422, 503))
    async def list_gaps(query: Annotated[PageQuery, Query()]) -> Response:
        """When nothing of a source and mode was listening, and why. The first start of a source opens no gap."""
        return page_reply("gaps", await database.read(gaps.gaps_page, span_of(query), source=query.source))

    @router.get("/hook-echoes", responses=describes(hook_echoes.EXAMPLE, 422, 503))
    async def list_hook_echoes(query: Annotated[EchoQuery, Query()]) -> Response:
        """What the vendor said of its webhooks, by the hour and by name, beside what was stored.

        An indication and no losses: echoes carry no id, and count attempts. A page has whole hours; where one has more
        rows than `limit`, ask by source.
        """
        return json_reply(await database.read(hook_echoes.hook_echoes_page, query.filter(), query.limit))

    @router.get("/losses", responses=describes_page("losses", losses.EXAMPLE, 422, 503))
    async def list_losses(query: Annotated[LossQuery, Query()]) -> Response:
        """Numbers of devices that did not come in their turn: missing, lost (the grace is over) or recovered.

        Only where a source has a `sequence`. A number keeps its `id` whatever becomes of it.
        """
        return page_reply("losses", await database.read(losses.losses_page, query.filter(), span_of(query)))

    @router.get("/rejects", responses=describes_page("rejects", rejects.EXAMPLE, 422, 503))
    async def list_rejects(query: Annotated[PageQuery, Query()]) -> Response:
        """What was authentic but could not become an event, with the bytes that were sent."""
        return page_reply("rejects", await database.read(rejects.rejects_page, span_of(query), source=query.source))

    return router


def shown_reason(reason: str | None) -> str | None:
    """Return why a source is down; the secrets in the URLs of a library's error are masked."""
    return None if reason is None else masked_text(reason)


def _source_row(status: SourceStatus, counted: _Counted, gap: Gap | None, now: datetime) -> SourceRow:
    return SourceRow(
        source=status.source,
        mode=status.mode,
        product=status.product,
        state=status.state,
        since=rfc3339(status.since),
        reason=shown_reason(status.reason),
        last_event_at=_time(status.last_event_at),
        last_byte_at=_time(status.last_byte_at),
        counts=status.counts,
        duplicate_kinds=counted.kinds.get((status.source, status.mode), {}),
        auth_failures=counted.auth_failures.get(status.source, 0) if status.mode == "webhook" else 0,
        hook_echoes=counted.hook_echoes.get((status.source, status.mode), {}),
        streams=[_stream_row(stream) for stream in status.streams],
        open_gap=None if gap is None else _open_gap(gap, now),
    )


def _stream_row(stream: StreamState) -> StreamRow:
    return StreamRow(
        stream=stream.stream,
        state=stream.state,
        since=rfc3339(stream.since),
        last_byte_at=_time(stream.last_byte_at),
        lost=stream.lost,
        reason=shown_reason(stream.reason),
        next_attempt_at=_time(stream.next_attempt_at),
    )


def _open_gap(gap: Gap, now: datetime) -> OpenGap:
    seconds = max((now - gap.since).total_seconds(), 0.0)
    return OpenGap(since=rfc3339(gap.since), cause=gap.cause.value, seconds=seconds)


def _time(at: datetime | None) -> Time | None:
    return None if at is None else rfc3339(at)


def _by_label(registry: CollectorRegistry, counter: str, label: str) -> Kinds:
    """Return what a counter shows of each source and mode, by its third label."""
    kinds: Kinds = {}
    for family in registry.restricted_registry([f"{counter}_total"]).collect():
        for sample in family.samples:
            labels = sample.labels
            kinds.setdefault((labels["source"], labels["mode"]), {})[labels[label]] = int(sample.value)
    return kinds


def _auth_failures(registry: CollectorRegistry) -> dict[str, int]:
    """Return how many requests were not let in, by source."""
    return {
        sample.labels["source"]: int(sample.value)
        for family in registry.restricted_registry([f"{_AUTH_FAILURES}_total"]).collect()
        for sample in family.samples
    }


_RECENT_EXAMPLE = RecentRequests(
    accepted=[],
    refused=[
        RequestRow(
            received_at="2026-07-28T16:53:05.702Z",
            method="POST",
            path="/ingest/fleet",
            query="",
            headers={"content-type": "application/json", "x-particle-kye": "***"},
            status=401,
            reason="the header X-Particle-Key is missing",
        )
    ],
)
_EXAMPLES = (
    SourceRow(
        source="fleet",
        mode="webhook",
        product="tracker",
        state="running",
        since="2026-07-28T08:00:00.000Z",
        reason=None,
        last_event_at="2026-07-28T16:53:05.702Z",
        last_byte_at="2026-07-28T16:53:05.702Z",
        counts={
            "received": 1050,
            "stored": 1042,
            "duplicate": 5,
            "rejected": 2,
            "ignored": 1,
            "deferred": 0,
            "in_flight": 0,
        },
        duplicate_kinds={"redelivery": 5, "overlap": 0, "redundant": 0, "resend": 0},
        auth_failures=0,
        hook_echoes={"sent": 0, "response": 0, "error": 0, "skipped": 0},
        streams=[],
        open_gap=None,
    ),
    SourceRow(
        source="fleet",
        mode="sse",
        product="tracker",
        state="down",
        since="2026-07-28T16:53:12.000Z",
        reason="nothing came for 20 s",
        last_event_at="2026-07-28T16:52:44.011Z",
        last_byte_at="2026-07-28T16:52:52.000Z",
        counts={
            "received": 1040,
            "stored": 0,
            "duplicate": 1040,
            "rejected": 0,
            "ignored": 0,
            "deferred": 0,
            "in_flight": 0,
        },
        duplicate_kinds={"redelivery": 0, "overlap": 1040, "redundant": 0, "resend": 0},
        auth_failures=0,
        hook_echoes={"sent": 1021, "response": 0, "error": 14, "skipped": 7},
        streams=[
            StreamRow(
                stream=1,
                state="waiting",
                since="2026-07-28T16:53:12.000Z",
                last_byte_at="2026-07-28T16:52:52.000Z",
                lost="idle",
                reason="nothing came for 20 s",
                next_attempt_at="2026-07-28T16:53:14.718Z",
            )
        ],
        open_gap=OpenGap(since="2026-07-28T16:52:52.000Z", cause="idle", seconds=21.4),
    ),
)
