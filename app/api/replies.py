"""How answers are written, and how they are described: JSON by msgspec, schemas from the same types."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any, TypeVar

import msgspec
from starlette.responses import Response

from app.api.problems import PROBLEM_JSON
from storage.queries import MAX_PAGE_BYTES, Page

T = TypeVar("T")

_encode = msgspec.json.Encoder().encode


def json_reply(content: Any) -> Response:
    """200 with `content` as JSON; what changes every second is never cached."""
    return Response(_encode(content), headers={"Cache-Control": "no-store"}, media_type="application/json")


def page_reply(name: str, page: Page[T], shown: Callable[[T], object], key_of: Callable[[T], int]) -> Response:
    """200 with the rows of a page under `name`, as many as fit in MAX_PAGE_BYTES of JSON, but at least one.

    The store bounded the page by what it keeps, and JSON may make six times as much of it: a control character is
    six letters. Where the page is cut, `next` and `last` are the key of the last row that is sent.
    """
    rows: list[msgspec.Raw] = []
    room = MAX_PAGE_BYTES
    for row in page.rows:
        encoded = _encode(shown(row))
        room -= len(encoded) + 1
        if rows and room < 0:
            cut_at = key_of(page.rows[len(rows) - 1])
            return json_reply({name: rows, "next": cut_at, "last": cut_at})
        rows.append(msgspec.Raw(encoded))
    return json_reply({name: rows, "next": page.next, "last": page.last})


def describes(type_: type, *errors: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route: 200 with the schema of `type_`, and the problems it can have.

    The examples are put in later (app.api.openapi): FastAPI would leave the nulls out of them.
    """
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{type_.__name__}"}}}
    return {
        200: {"description": "OK", "content": content},
        **{status: problem_reply(status) for status in (401, 403, *errors)},
    }


def problem_reply(status: int, detail: str | None = None) -> dict[str, Any]:
    """The description of an error, with an example."""
    title = HTTPStatus(status).phrase
    example = {"type": "about:blank", "title": title, "status": status, "detail": detail or _DETAILS[status]}
    if status == 422 and detail is None:
        example["errors"] = [{"in": "query", "name": "limit", "detail": "Input should be less than or equal to 1000"}]
    content = {"schema": {"$ref": "#/components/schemas/Problem"}, "example": example}
    return {"description": detail or title, "content": {PROBLEM_JSON: content}}


_DETAILS = {
    401: "Give a token: Authorization: Bearer <token>.",
    403: "This takes an admin token.",
    404: "There is nothing of this name.",
    413: "The body is larger than this takes.",
    422: "Not usable: limit.",
    503: "The store cannot be reached now.",
}
