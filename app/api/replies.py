"""How answers are written and described: structs as JSON by msgspec, and their schemas with an example of each."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, TypeVar

import msgspec
from starlette.responses import Response

from app.api.problems import BLANK, PROBLEM_JSON, Problem
from app.visible import visible_json
from storage.queries.page import MAX_PAGE_BYTES, Page

T = TypeVar("T")
Responses = dict[int | str, dict[str, Any]]

_encode_as_is = msgspec.json.Encoder().encode


def _encode(content: Any) -> bytes:
    return visible_json(_encode_as_is(content))


def json_reply(content: Any, *, status: int = 200) -> Response:
    """Return `content` as JSON; what changes every second is never cached."""
    return Response(_encode(content), status, headers={"Cache-Control": "no-store"}, media_type="application/json")


def page_reply(name: str, page: Page[T]) -> Response:
    """Return 200 with the rows of a page under `name`, as many as fit in MAX_PAGE_BYTES of JSON, but at least one.

    The store bounded the page by what it keeps, and JSON may make six times as much of it: a control character is
    six letters. Where the page is cut, `next` and `last` are the key of the last row that is sent.
    """
    rows: list[msgspec.Raw] = []
    room = MAX_PAGE_BYTES
    for row in page.rows:
        encoded = _encode(row)
        room -= len(encoded) + 1
        if rows and room < 0:
            cut_at = page.key_of(page.rows[len(rows) - 1])
            return json_reply({name: rows, "next": cut_at, "last": cut_at})
        rows.append(msgspec.Raw(encoded))
    return json_reply({name: rows, "next": page.next, "last": page.last})


def describes_page(name: str, example: msgspec.Struct, *errors: int, key: str = "id") -> Responses:
    """Describe a route that answers by `page_reply`, with a page of this one row, which is known by `key`."""
    ends = [("next", int | None), ("last", int)]
    page = msgspec.defstruct(f"{name.capitalize()}Page", [(name, list[type(example)]), *ends], namespace=_PAGE)  # type: ignore[misc]
    return describes(page([example], None, getattr(example, key)), *errors)


def describes_list(name: str, *examples: msgspec.Struct, errors: tuple[int, ...] = ()) -> Responses:
    """Describe a route that answers with all rows there are under `name`."""
    rows = msgspec.defstruct(f"{name.capitalize()}List", [(name, list[type(examples[0])])])  # type: ignore[misc]
    return describes(rows(list(examples)), *errors)


def describes(example: msgspec.Struct, *errors: int, status: int = 200) -> Responses:
    """Describe a route (the `responses` of FastAPI): its answer, with the schema of the example, and its problems.

    app.api.openapi finishes the document: what a schema refers to is under its `$defs` here, and the example is text,
    because FastAPI would leave the nulls out of it.
    """
    described = {"schema": _schema_of(type(example)), "example": _encode(example).decode()}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": {"application/json": described}},
        **{error: problem_reply(error) for error in (401, 403, *errors)},
    }


def problem_reply(status: int, detail: str | None = None) -> dict[str, Any]:
    """Describe an error, with an example."""
    title = HTTPStatus(status).phrase
    example = Problem(type=BLANK, title=title, status=status, detail=detail or _DETAILS[status])
    if status == 422 and detail is None:
        example.errors = [{"in": "query", "name": "limit", "detail": "Input should be less than or equal to 1000"}]
    content = {"schema": _schema_of(Problem), "example": msgspec.to_builtins(example)}
    return {"description": detail or title, "content": {PROBLEM_JSON: content}}


def _schema_of(type_: type) -> dict[str, Any]:
    return msgspec.json.schema(type_, ref_template="#/components/schemas/{name}")


_PAGE = {"__doc__": "One page. `next` is null when there is no more now; `last` is always where to go on from."}
_DETAILS = {
    400: 'Name what to redrive: ids, cause, since or until, or "all": true.',
    401: "Give a token: Authorization: Bearer <token>.",
    403: "This takes an admin token.",
    404: "There is nothing of this name.",
    409: "Another one is going on for this handler.",
    413: "The body is larger than this takes.",
    422: "Not usable: limit.",
    503: "The store cannot be reached now.",
}
