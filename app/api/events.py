"""GET /api/v1/events and /events/{id}."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.responses import Response

from app.api.parameters import EventQuery, span_of
from app.api.replies import describes, describes_page, json_reply, page_reply
from app.handlers.filters import make_filter
from app.settings import HandlerSettings
from ingest import event_json
from storage.engine import Database
from storage.queries import events
from storage.queries.event_deliveries import ConfiguredHandler


def events_router(database: Database, configured: Mapping[str, HandlerSettings]) -> APIRouter:
    """Make the routes of events, by filter and by id. `configured`: the handlers of the configuration."""
    known = [
        ConfiguredHandler(label, make_filter(settings), settings.start == "beginning")
        for label, settings in configured.items()
    ]
    router = APIRouter(prefix="/api/v1/events", tags=["events"], default_response_class=JSONResponse)

    @router.get("", responses=describes_page("events", event_json.EXAMPLE, 422, 503, key="position"))
    async def list_events(query: Annotated[EventQuery, Query()]) -> Response:
        """Events in order of commit. `next` is null when there is no more now; go on from `last` later."""
        return page_reply("events", await database.read(events.events_page, query.filter(), span_of(query)))

    @router.get("/{id}", responses=describes(events.EXAMPLE, 404, 422, 503))
    async def read_event(id: UUID) -> Response:  # noqa: A002 - the name of the documented parameter
        """One event, with every further arrival of it, and what became of it at each handler."""
        found = await database.read(events.event_by_id, id, known)
        if found is None:
            raise HTTPException(404, "There is no event of this id.")
        return json_reply(found)

    return router
