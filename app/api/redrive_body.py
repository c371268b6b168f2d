"""The body of POST …/redrive: which dead letters, and how fast."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request

from app.api.parameters import TIME_SCHEMA, body_of
from app.times import time_of, utc_now
from ingest import event_json
from ingest.delivery import FailureCause
from ingest.settings.quantities import parse_rate
from storage.dead_letters import Chosen


class Redrive(NamedTuple):
    """Which dead letters to give back, and how many a second at most."""

    chosen: Chosen
    rate: float | None


class _Asked(msgspec.Struct, forbid_unknown_fields=True):
    ids: list[UUID] | None = None
    cause: FailureCause | None = None
    since: str | None = None
    until: str | None = None
    all: bool = False
    rate: str | None = None


_PROPERTIES = {
    "ids": {"type": "array", "items": {"type": "string", "format": "uuid"}, "description": "of their events"},
    "cause": {"type": "string", "enum": [*FailureCause], "description": "by which the last attempt failed"},
    "since": {**TIME_SCHEMA, "description": "failed first at or after it: RFC 3339, or `2h`, `3d` ago"},
    "until": {**TIME_SCHEMA, "description": "failed first before it: RFC 3339, or `2h`, `3d` ago"},
    "all": {"const": True, "description": "all of the handler's; goes with nothing but a rate"},
    "rate": {
        "type": "string",
        "pattern": "^[1-9][0-9]{0,8}/[smh]$",
        "description": "at most so many: 50/s, 30/m or 10/h",
    },
}
_EXAMPLES: dict[str, dict[str, Any]] = {
    "all": {"all": True},
    "some": {"ids": [str(event_json.EXAMPLE.id)]},
    "slowly": {"cause": "timeout", "since": "2h", "rate": "50/s"},
}
DESCRIPTION = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "additionalProperties": False,
                "properties": _PROPERTIES,
                "anyOf": [{"required": [name]} for name in _PROPERTIES if name != "rate"],
                "not": {
                    "required": ["all"],
                    "anyOf": [{"required": [name]} for name in ("ids", "cause", "since", "until")],
                },
            },
            "examples": {name: {"value": value} for name, value in _EXAMPLES.items()},
        }
    },
}

_read = msgspec.json.Decoder(_Asked).decode


async def redrive_of(request: Request) -> Redrive:
    """Return what a request asks for; what is given narrows it.

    Raises HTTPException 400 for a body that names nothing (contract §5), 413 for one of more than 1 MiB, and
    RequestValidationError for any other fault.
    """
    body = await body_of(request)
    try:
        asked = _read(body if body.strip() else b"{}")
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _invalid(str(error)) from None
    conditions = (asked.ids, asked.cause, asked.since, asked.until)
    narrowed = any(condition is not None for condition in conditions)
    if not narrowed and not asked.all:
        raise HTTPException(400, 'Name what to redrive: ids, cause, since or until, or "all": true.')
    if narrowed and asked.all:
        raise _invalid("give either all, or one or several of ids, cause, since and until")
    try:
        since, until = _time(asked.since), _time(asked.until)
        rate = None if asked.rate is None else parse_rate(asked.rate)
    except ValueError as error:
        raise _invalid(str(error)) from None
    return Redrive(Chosen(asked.ids, asked.cause, since, until), rate)


def _time(text: str | None) -> datetime | None:
    return None if text is None else time_of(text, utc_now())


def _invalid(message: str) -> RequestValidationError:
    return RequestValidationError([{"loc": ("body",), "msg": message, "type": "value_error"}])
