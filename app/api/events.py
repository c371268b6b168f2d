"""GET /api/v1/events and /events/{id}."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.responses import Response

from app.api.parameters import EventQuery, span_of
from app.api.replies import describes, json_reply, page_reply
from app.api.shapes import EventsPage, EventWithSightings
from app.event_json import event_json
from ingest.times import rfc3339
from storage import queries
from storage.engine import Database


def events_router(database: Database) -> APIRouter:
    """Events by filter and by id."""
    router = APIRouter(prefix="/api/v1/events", tags=["events"], default_response_class=JSONResponse)

    @router.get("", responses=describes(EventsPage, 422, 503))
    async def list_events(query: Annotated[EventQuery, Query()]) -> Response:
        """Events in order of commit. `next` is null when there is no more now; go on from `last` later."""
        page = await database.read(queries.events_page, query.filter(), span_of(query))
        return page_reply("events", page, event_json, lambda event: event.position or 0)

    @router.get("/{id}", responses=describes(EventWithSightings, 404, 422, 503))
    async def read_event(id: UUID) -> Response:  # noqa: A002 - the name of the documented parameter
        """One event, with every further arrival of it."""
        found = await database.read(queries.event_by_id, id)
        if found is None:
            raise HTTPException(404, "There is no event of this id.")
        event, sightings = found
        return json_reply({**event_json(event), "sightings": list(map(_sighting_json, sightings))})

    return router


def _sighting_json(sighting: queries.Sighting) -> dict[str, Any]:
    return {"source": sighting.source, "mode": sighting.mode, "received_at": rfc3339(sighting.received_at)}
