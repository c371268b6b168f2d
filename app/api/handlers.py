"""GET /api/v1/handlers and a handler's dead letters, and POST …/redrive."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated
from uuid import UUID

import msgspec
from fastapi import APIRouter, Path, Query
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from app.api import examples
from app.api.parameters import DeadQuery
from app.api.replies import describes, json_reply, page_reply
from app.api.shapes import DeadPage, HandlersList, Redriven
from app.row_json import dead_json, handler_json
from storage import deliveries, queries
from storage.engine import Database
from storage.queries import Span

_MAX_BODY_BYTES = 1024 * 1024

Label = Annotated[str, Path(pattern=r"^[a-z][a-z0-9_]*$", max_length=256, examples=["alerts"])]


class Redrive(msgspec.Struct, forbid_unknown_fields=True):
    """Which dead letters: those of the events `ids`, or all."""

    ids: list[UUID] | None = None
    all: bool = False


_read_redrive = msgspec.json.Decoder(Redrive).decode
_REDRIVE_BODY = {
    "required": False,
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
            "examples": {"all": {"value": {"all": True}}, "some": {"value": {"ids": [examples.EVENT["id"]]}}},
        }
    },
}


def handlers_router(database: Database, failing: Callable[[], Mapping[str, str]]) -> APIRouter:
    """Handlers, what they gave up, and another try. `failing`: those that fail by their own code, and why."""
    router = APIRouter(prefix="/api/v1/handlers", tags=["handlers"], default_response_class=JSONResponse)

    async def require(handler: str) -> None:
        if not await database.read(queries.handler_exists, handler):
            raise HTTPException(404, "There is no handler of this name.")

    @router.get("", responses=describes(HandlersList, 503))
    async def list_handlers() -> Response:
        """Every handler: how far behind it is, what waits for another try, what is dead."""
        rows = await database.read(queries.handler_rows)
        return json_reply({"handlers": [handler_json(row, failing()) for row in rows]})

    @router.get("/{handler}/dead", responses=describes(DeadPage, 404, 422, 503))
    async def list_dead(handler: Label, query: Annotated[DeadQuery, Query()]) -> Response:
        """A handler's dead letters, oldest first, each with its event."""
        await require(handler)
        page = await database.read(queries.dead_page, handler, Span(query.limit, query.after))
        return page_reply("dead", page, dead_json, lambda row: row.position)

    @router.post(
        "/{handler}/redrive",
        responses=describes(Redriven, 404, 413, 422, 503),
        openapi_extra={"requestBody": _REDRIVE_BODY},
    )
    async def redrive(handler: Label, request: Request) -> Response:
        """Dead letters back to the handler: those of the events named by `ids`; without a body, or with `all`, all."""
        wanted = _wanted(await _body_of(request))
        await require(handler)
        if wanted is None:
            return json_reply({"redriven": await database.write(deliveries.redrive, handler)})
        positions = await database.read(queries.dead_positions, handler, wanted)
        return json_reply({"redriven": await database.write(deliveries.redrive, handler, positions)})

    return router


async def _body_of(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_BODY_BYTES:
            raise HTTPException(413, "The body is larger than this takes.")
    return bytes(body)


def _wanted(body: bytes) -> list[UUID] | None:
    """The ids a body names; None for all. Raises RequestValidationError."""
    if not body.strip():
        return None
    try:
        asked = _read_redrive(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RequestValidationError([{"loc": ("body",), "msg": str(error), "type": "value_error"}]) from None
    if (asked.ids is None) is not asked.all:
        raise RequestValidationError([{"loc": ("body",), "msg": "give either ids or all", "type": "value_error"}])
    return asked.ids
