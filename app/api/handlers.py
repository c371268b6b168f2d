"""GET /api/v1/handlers, and POST …/pause and …/resume."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from fastapi import APIRouter
from fastapi.responses import JSONResponse
from msgspec.structs import replace
from starlette.responses import Response

from app.api.parameters import HandlerName, require_handler
from app.api.replies import describes, describes_list, json_reply
from app.settings import HandlerSettings
from storage import pauses
from storage.engine import Database
from storage.queries import handlers
from storage.queries.handlers import HandlerRow


@dataclass(frozen=True, slots=True)
class HandlersHere:
    """The handlers that this process is configured to run, and by which name it holds their leases."""

    holder: str = ""
    settings: Mapping[str, HandlerSettings] = field(default_factory=dict)


class Paused(msgspec.Struct, frozen=True):
    """Whether a handler is paused now."""

    handler: str
    paused: bool


def handlers_router(database: Database, here: HandlersHere, failing: Callable[[], Mapping[str, str]]) -> APIRouter:
    """Make the routes of handlers. `failing`: those that fail by their own code, and why."""
    router = APIRouter(prefix="/api/v1/handlers", tags=["handlers"], default_response_class=JSONResponse)

    @router.get("", responses=describes_list("handlers", handlers.EXAMPLE, errors=(503,)))
    async def list_handlers() -> Response:
        """Every handler: how far behind it is, what waits for another try, what is dead."""
        rows, by_own_code = await database.read(handlers.handler_rows), failing()
        return json_reply({"handlers": [_seen_here(row, here, by_own_code) for row in rows]})

    @router.post("/{handler}/pause", responses=describes(Paused("alerts", paused=True), 404, 422, 503))
    async def pause(handler: HandlerName) -> Response:
        """Let a handler deliver nothing until it is resumed. Every replica obeys within five seconds."""
        await require_handler(database, handler)
        await database.write(pauses.pause, handler, "asked for by the API")
        return json_reply(Paused(handler, paused=True))

    @router.post("/{handler}/resume", responses=describes(Paused("alerts", paused=False), 404, 422, 503))
    async def resume(handler: HandlerName) -> Response:
        """Let a handler deliver again, from where it was paused."""
        await require_handler(database, handler)
        await database.write(pauses.resume, handler)
        return json_reply(Paused(handler, paused=False))

    return router


def _seen_here(row: HandlerRow, here: HandlersHere, failing: Mapping[str, Any]) -> HandlerRow:
    """Return a row with the state that this process knows better than the store."""
    if row.state != "paused" and row.handler in failing:
        return replace(row, state="failing")
    if row.state == "running" and row.handler in here.settings and row.holder != here.holder:
        return replace(row, state="standby")
    return row
