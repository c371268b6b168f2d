"""GET /api/v1/handlers/{h}/dead, by letter and by cause, and POST …/redrive."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import msgspec
from fastapi import APIRouter, Query
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from app.api.parameters import CauseQuery, DeadQuery, HandlerName, require_handler
from app.api.replies import describes, describes_list, describes_page, json_reply, page_reply
from ingest import event_json
from storage.dead_letters import Chosen, each_step, give_back
from storage.engine import Database
from storage.queries import dead_letters
from storage.queries.page import PageSpan

_MAX_BODY_BYTES = 1024 * 1024


class Redriven(msgspec.Struct, frozen=True):
    """How many dead letters the handler gets again."""

    redriven: int


class Redrive(msgspec.Struct, forbid_unknown_fields=True):
    """Which dead letters: those of the events `ids`, or all."""

    ids: list[UUID] | None = None
    all: bool = False


_read_redrive = msgspec.json.Decoder(Redrive).decode
_REDRIVE_BODY = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    "ids": {"type": "array", "items": {"type": "string", "format": "uuid"}},
                    "all": {"const": True},
                },
                "minProperties": 1,
                "maxProperties": 1,
            },
            "examples": {"all": {"value": {"all": True}}, "some": {"value": {"ids": [str(event_json.EXAMPLE.id)]}}},
        }
    },
}


def dead_letters_router(database: Database) -> APIRouter:
    """Make the routes of dead letters and redrive."""
    router = APIRouter(prefix="/api/v1/handlers/{handler}", tags=["handlers"], default_response_class=JSONResponse)

    @router.get("/dead", responses=describes_page("dead", dead_letters.EXAMPLE, 404, 422, 503, key="position"))
    async def list_dead(handler: HandlerName, query: Annotated[DeadQuery, Query()]) -> Response:
        """A handler's dead letters, oldest first, each with its event."""
        await require_handler(database, handler)
        span = PageSpan(query.limit, query.after)
        return page_reply("dead", await database.read(dead_letters.dead_page, handler, span, query.cause))

    @router.get("/dead/causes", responses=describes_list("causes", dead_letters.CAUSE_EXAMPLE, errors=(404, 422, 503)))
    async def list_causes(handler: HandlerName, query: Annotated[CauseQuery, Query()]) -> Response:
        """A handler's dead letters by cause and error, the most frequent first."""
        await require_handler(database, handler)
        return json_reply({"causes": await database.read(dead_letters.dead_causes, handler, query.cause)})

    @router.post(
        "/redrive",
        responses=describes(Redriven(1), 400, 404, 413, 422, 503),
        openapi_extra={"requestBody": _REDRIVE_BODY},
    )
    async def redrive(handler: HandlerName, request: Request) -> Response:
        """Dead letters back to the handler: those of the events named by `ids`, or `"all": true`."""
        wanted = _wanted(await _body_of(request))
        await require_handler(database, handler)
        steps = each_step(database, give_back, handler, Chosen(ids=wanted))
        return json_reply(Redriven(sum([count async for count in steps])))

    return router


async def _body_of(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_BODY_BYTES:
            raise HTTPException(413, "The body is larger than this takes.")
    return bytes(body)


def _wanted(body: bytes) -> list[UUID] | None:
    """Return the ids a body names; None for all.

    Raises HTTPException 400 for one that names nothing (contract §5), RequestValidationError for any other fault.
    """
    try:
        asked = _read_redrive(body if body.strip() else b"{}")
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RequestValidationError([{"loc": ("body",), "msg": str(error), "type": "value_error"}]) from None
    if asked.ids is None and not asked.all:
        raise HTTPException(400, 'Name what to redrive: give either ids, or "all": true.')
    if asked.ids is not None and asked.all:
        raise RequestValidationError([{"loc": ("body",), "msg": "give either ids or all", "type": "value_error"}])
    return asked.ids
