"""The OpenAPI document: what FastAPI knows of its routes, our schemas, and the webhook endpoints in front of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from app.api.examples import OF_SCHEMA
from app.api.ingest_paths import ingest_path
from app.api.shapes import schemas

_DESCRIPTION = (
    "Device events, each stored once. Times are UTC with three decimals. "
    "Errors are application/problem+json (RFC 9457)."
)
_TOKEN = {
    "type": "http",
    "scheme": "bearer",
    "description": "A token of [access]. On loopback without any: none to read, the one in headrace.token to act",
}
_WITHOUT_TOKEN = ("/livez", "/readyz")


def document_of(api: FastAPI, webhooks: Sequence[tuple[str, str]]) -> Callable[[], dict[str, Any]]:
    """A function that returns the document, made when it is first asked for. `webhooks` are (path, label)."""

    def document() -> dict[str, Any]:
        if api.openapi_schema is None:
            api.openapi_schema = _document(api, webhooks)
        return api.openapi_schema

    return document


def _document(api: FastAPI, webhooks: Sequence[tuple[str, str]]) -> dict[str, Any]:
    document = get_openapi(title=api.title, version=api.version, description=_DESCRIPTION, routes=api.routes)
    document["components"] = {"schemas": schemas(), "securitySchemes": {"token": _TOKEN}}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            operation["security"] = (
                [] if path in _WITHOUT_TOKEN else [{"token": []}, *([{}] if method == "get" else [])]
            )
            _add_example(operation["responses"]["200"]["content"])
    document["paths"] = {path: ingest_path(label) for path, label in webhooks} | document["paths"]
    return document


def _add_example(content: dict[str, Any]) -> None:
    for described in content.values():
        name = described.get("schema", {}).get("$ref", "").rpartition("/")[2]
        if name in OF_SCHEMA:
            described["example"] = OF_SCHEMA[name]
