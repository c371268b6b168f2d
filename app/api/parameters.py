"""Parameters and bodies, checked before the store is asked: positions, times, filters, pages, names of handlers."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Path
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from starlette.exceptions import HTTPException
from starlette.requests import Request

from app.times import time_of, utc_now
from ingest.delivery import FailureCause
from ingest.event import MAX_DEVICE_CHARACTERS, MAX_NAME_CHARACTERS
from ingest.sequences import LossState
from storage.engine import Database
from storage.queries.comparison import ComparisonFilter
from storage.queries.events import EventFilter
from storage.queries.handlers import handler_exists
from storage.queries.hook_echoes import EchoFilter
from storage.queries.losses import LossFilter
from storage.queries.page import PageSpan

TIME_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"type": "string", "format": "date-time", "examples": ["2026-07-28T16:53:05.616Z"]},
        {"type": "string", "pattern": r"^[0-9]{1,4}(ms|s|m|h|d)$", "examples": ["2h"]},
    ]
}
MAX_POSITION = (1 << 63) - 1
_MAX_BODY_BYTES = 1024 * 1024
_PLUS_READ_AS_SPACE = re.compile(r"(?<=\d) (?=\d\d:?\d\d\Z)")


def _instant(text: object) -> datetime | None:
    """Parse a time. In a query + means a space: an offset that was not percent-encoded is understood."""
    return None if text is None else time_of(_PLUS_READ_AS_SPACE.sub("+", str(text)), utc_now())


STRICT = ConfigDict(extra="forbid", frozen=True)  # a misspelt filter must not answer with everything
_NO_NUL = r"^[^\x00]*$"

Text = Annotated[str, Field(pattern=_NO_NUL, max_length=MAX_NAME_CHARACTERS)]
Device = Annotated[str, Field(pattern=_NO_NUL, max_length=MAX_DEVICE_CHARACTERS, examples=["e00fce682e79a004f1e69a2b"])]
Time = Annotated[datetime, BeforeValidator(_instant), WithJsonSchema(TIME_SCHEMA)]
Position = Annotated[int, Field(ge=0, le=MAX_POSITION)]
Limit = Annotated[int, Field(ge=1, le=1000)]
Cause = Annotated[FailureCause, WithJsonSchema({"type": "string", "enum": [*FailureCause]})]
State = Annotated[LossState, WithJsonSchema({"type": "string", "enum": [*LossState]})]
HandlerName = Annotated[str, Path(pattern=r"^[a-z][a-z0-9_]*$", max_length=256, examples=["alerts"])]


class PageQuery(BaseModel):
    """One page of rows that have ascending numbers."""

    model_config = STRICT

    limit: Limit = 100
    after: Annotated[Position, Field(description="rows behind this one: `last` or `next` of the page before")] = 0
    before: Annotated[Position | None, Field(description="rows before this one")] = None
    order: Annotated[Literal["asc", "desc"], Field(description="`desc`: the newest first; go on with `before`")] = "asc"
    source: Annotated[Text | None, Field(description="label of the source")] = None


class LossQuery(PageQuery):
    """A filter of losses, and one page of them."""

    product: Text | None = None
    device: Device | None = None
    state: Annotated[State | None, Field(description="what became of it")] = None
    since: Annotated[Time | None, Field(description="noticed at or after this time (RFC 3339)")] = None
    until: Annotated[Time | None, Field(description="noticed before this time (RFC 3339)")] = None

    def filter(self) -> LossFilter:
        """Return what the store is asked for."""
        return LossFilter(self.source, self.product, self.device, self.state, self.since, self.until)


class EchoQuery(BaseModel):
    """A filter of the vendor's words on its webhooks, which are tallied by the hour."""

    model_config = STRICT

    source: Annotated[Text | None, Field(description="label of the source that heard them")] = None
    since: Annotated[Time | None, Field(description="hours that began at or after this time")] = None
    until: Annotated[Time | None, Field(description="hours that began before this time: `next` of a page")] = None
    limit: Limit = 100

    def filter(self) -> EchoFilter:
        """Return what the store is asked for."""
        return EchoFilter(self.source, self.since, self.until)


class ComparisonQuery(PageQuery):
    """A filter of comparisons, and one page of them."""

    since: Annotated[Time | None, Field(description="hours that were not over at this time (RFC 3339)")] = None
    until: Annotated[Time | None, Field(description="hours that began before this time (RFC 3339)")] = None

    def filter(self) -> ComparisonFilter:
        """Return what the store is asked for."""
        return ComparisonFilter(self.source, self.since, self.until)


class EventQuery(BaseModel):
    """A filter of events, and one page of them."""

    model_config = STRICT

    product: Text | None = None
    device: Device | None = None
    name: Annotated[Text | None, Field(description="prefix of the event's name", examples=["spark/"])] = None
    source: Annotated[Text | None, Field(description="label of the source that stored it")] = None
    since: Annotated[
        Time | None, Field(description="published at or after this time: RFC 3339, or `2h`, `3d` for that long ago")
    ] = None
    until: Annotated[Time | None, Field(description="published before this time: RFC 3339, or `2h`, `3d` ago")] = None
    limit: Limit = 100
    after: Annotated[
        Position, Field(description="events behind this position: `last` or `next` of the page before")
    ] = 0
    before: Annotated[Position | None, Field(description="events before this position")] = None
    order: Annotated[Literal["asc", "desc"], Field(description="`desc`: the newest first; go on with `before`")] = "asc"

    def filter(self) -> EventFilter:
        """Return what the store is asked for."""
        return EventFilter(self.product, self.device, self.name, self.source, self.since, self.until)


class CauseQuery(BaseModel):
    """A choice of dead letters."""

    model_config = STRICT

    cause: Annotated[Cause | None, Field(description="only those whose last attempt failed by it")] = None


class DeadQuery(BaseModel):
    """One page of dead letters."""

    model_config = STRICT

    cause: Annotated[Cause | None, Field(description="only those whose last attempt failed by it")] = None
    limit: Limit = 100
    after: Annotated[Position, Field(description="dead letters behind this position")] = 0


def span_of(query: PageQuery | EventQuery) -> PageSpan:
    """Return the page that a query asks for."""
    return PageSpan(query.limit, query.after, query.before, descending=query.order == "desc")


async def require_handler(database: Database, handler: str) -> None:
    """Raise HTTPException 404 where no handler of this name ever ran on the store."""
    if not await database.read(handler_exists, handler):
        raise HTTPException(404, "There is no handler of this name.")


async def body_of(request: Request) -> bytes:
    """Return a body of at most 1 MiB. Raises HTTPException 413 for a larger one."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_BODY_BYTES:
            raise HTTPException(413, "The body is larger than this takes.")
    return bytes(body)
