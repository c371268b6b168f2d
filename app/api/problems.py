"""Every error as `application/problem+json` (RFC 9457), whoever raises it."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from app.visible import visible_json
from ingest.errors import StoreUnavailable
from storage.engine import DataRefused

PROBLEM_JSON = "application/problem+json"
BLANK = "about:blank"  # nothing more is known of it than its status
_RETRY_AFTER_SECONDS = "5"


class Problem(msgspec.Struct, kw_only=True):
    """An error (RFC 9457). `errors` name the parameters at fault."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[dict[str, str]] | msgspec.UnsetType = msgspec.UNSET


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None, **members: Any) -> Response:
    """Return a problem whose title is that of its status; `members` extend it (RFC 9457 §3.2)."""
    body = Problem(type=BLANK, title=HTTPStatus(status).phrase, status=status, detail=detail)
    return Response(
        visible_json(msgspec.json.encode(msgspec.to_builtins(body) | members)),
        status,
        {"Cache-Control": "no-store", **(headers or {})},
        media_type=PROBLEM_JSON,
    )


def install(api: FastAPI) -> None:
    """Have `api` answer with problems only."""
    api.add_exception_handler(HTTPException, _http)
    api.add_exception_handler(RequestValidationError, _invalid)
    api.add_exception_handler(DataRefused, _refused)
    api.add_exception_handler(StoreUnavailable, _unavailable)
    api.add_exception_handler(Exception, _unexpected)


async def _http(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for nothing else
    return problem(error.status_code, str(error.detail), error.headers)


async def _invalid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for nothing else
    errors = [
        {"in": str(fault["loc"][0]), "name": ".".join(map(str, fault["loc"][1:])), "detail": _printable(fault["msg"])}
        for fault in error.errors()
    ]
    names = ", ".join(dict.fromkeys(fault["name"] or fault["in"] for fault in errors))
    return problem(422, f"Not usable: {_printable(names)}.", errors=errors)


async def _refused(_request: Request, _error: Exception) -> Response:
    return problem(422, "The database cannot compare with a value that was given.", errors=[])


async def _unavailable(_request: Request, _error: Exception) -> Response:
    return problem(503, "The store cannot be reached now.", {"Retry-After": _RETRY_AFTER_SECONDS})


async def _unexpected(_request: Request, _error: Exception) -> Response:
    return problem(500, "This is a fault of ours; the log has it.")


def _printable(text: str) -> str:
    """Shorten what was sent, which may come back in a message, to text that UTF-8 can hold."""
    return text[:200].encode("utf-8", "replace").decode()
