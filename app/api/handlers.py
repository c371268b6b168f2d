"""GET /api/v1/handlers, and POST …/pause, …/resume and …/test."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
from fastapi import APIRouter
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from msgspec.structs import replace
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from app import trial
from app.api.parameters import HandlerName, body_of, require_handler
from app.api.replies import describes, describes_list, json_reply
from app.settings import HandlerSettings
from app.trial import TrialOf, sample_for, try_apart, try_here
from ingest.errors import ConfigurationError
from ingest.event import Event
from storage import pauses
from storage.engine import Database
from storage.queries import handlers
from storage.queries.events import stored_event
from storage.queries.handlers import HandlerRow


@dataclass(frozen=True, slots=True)
class HandlersHere:
    """The handlers that this process is configured to run, and by which name it holds their leases.

    `folder` is where the configuration file is.
    """

    holder: str = ""
    settings: Mapping[str, HandlerSettings] = field(default_factory=dict)
    folder: Path = Path()


class Paused(msgspec.Struct, frozen=True):
    """Whether a handler is paused now."""

    handler: str
    paused: bool


class Test(msgspec.Struct, forbid_unknown_fields=True):
    """Which stored event to deliver; a sample where none is named."""

    id: UUID | None = None


_read_test = msgspec.json.Decoder(Test).decode
_TEST_BODY = {
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    "id": {"type": ["string", "null"], "format": "uuid", "description": "of a stored event"}
                },
            },
            "examples": {"stored": {"value": {"id": trial.EXAMPLE.id}}},
        }
    }
}


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

    tested: set[str] = set()

    @router.post(
        "/{handler}/test",
        responses=describes(trial.EXAMPLE, 404, 409, 413, 422, 503),
        openapi_extra={"requestBody": _TEST_BODY},
    )
    async def test(handler: HandlerName, request: Request) -> Response:
        """Deliver one event now, a sample or the stored one of `id`, and say what became of it.

        It is made and called for this alone, python code in a process of its own; no cursor and no row changes. One at
        a time for each handler: 409 while another is going on.
        """
        settings = here.settings.get(handler)
        if settings is None:
            raise HTTPException(404, "This server is not configured to run a handler of this name.")
        event = await _event_for(settings, await body_of(request), database)
        if handler in tested:
            raise HTTPException(409, "This handler is being tested already.")
        tested.add(handler)
        try:
            tried = TrialOf(handler, settings, here.folder, event)
            return json_reply(await (try_apart if settings.runs_apart else try_here)(tried))
        except ConfigurationError as error:
            raise HTTPException(422, str(error)) from None
        finally:
            tested.discard(handler)

    return router


async def _event_for(settings: HandlerSettings, body: bytes, database: Database) -> Event:
    """Return the event that a body names, or a sample. Raises HTTPException 404, RequestValidationError."""
    try:
        wanted = _read_test(body if body.strip() else b"{}").id
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RequestValidationError([{"loc": ("body",), "msg": str(error), "type": "value_error"}]) from None
    if wanted is None:
        return sample_for(settings)
    event = await database.read(stored_event, wanted)
    if event is None:
        raise HTTPException(404, "There is no event of this id.")
    return event


def _seen_here(row: HandlerRow, here: HandlersHere, failing: Mapping[str, Any]) -> HandlerRow:
    """Return a row with the state that this process knows better than the store."""
    if row.state != "paused" and row.handler in failing:
        return replace(row, state="failing")
    if row.state == "running" and row.handler in here.settings and row.holder != here.holder:
        return replace(row, state="standby")
    return row
