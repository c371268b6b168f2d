"""GET /api/v1/handlers/{h}/dead, by letter and by cause, and POST …/redrive."""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from app.api import redrive_body
from app.api.parameters import CauseQuery, DeadQuery, HandlerName, require_handler
from app.api.redrive_body import redrive_of
from app.api.replies import describes, describes_list, describes_page, json_reply, page_reply
from app.redriving import BackgroundRedrives
from storage.dead_letters import count, each_step, give_back
from storage.engine import Database
from storage.queries import dead_letters
from storage.queries.page import PageSpan


class Redriven(msgspec.Struct, frozen=True):
    """How many dead letters the handler gets again."""

    redriven: int


class RedriveBegun(msgspec.Struct, frozen=True):
    """How many dead letters the handler will get again, and how many seconds that takes by the rate."""

    to_redrive: int
    seconds: float


def dead_letters_router(database: Database, redrives: BackgroundRedrives) -> APIRouter:
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
        responses={
            **describes(Redriven(1), 400, 404, 409, 413, 422, 503),
            202: describes(RedriveBegun(1000, 20.0), status=202)[202],
        },
        openapi_extra={"requestBody": redrive_body.DESCRIPTION},
    )
    async def redrive(handler: HandlerName, request: Request) -> Response:
        """Dead letters back to the handler: those that meet every condition of the body, or `"all": true`.

        200 when that is done. With a `rate` 202: the server goes on by itself, and what a stop leaves undone stays
        dead. One at a time for each handler: 409 while another is going on.
        """
        wanted = await redrive_of(request)
        await require_handler(database, handler)
        if wanted.rate is None:
            steps = each_step(database, give_back, handler, wanted.chosen)
            return json_reply(Redriven(sum([changed async for changed in steps])))
        many = await database.read(count, handler, wanted.chosen)
        if not redrives.begin(handler, wanted.chosen, wanted.rate):
            raise HTTPException(409, "A redrive of this handler is going on in this server.")
        return json_reply(RedriveBegun(many, round(many / wanted.rate, 3)), status=202)

    return router
