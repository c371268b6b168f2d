"""The OpenAPI document: what FastAPI knows of its routes, our schemas, and the webhook endpoints in front of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from app.api.ingest_paths import ingest_path

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
    """Return a function that returns the document, made when it is first asked for. `webhooks` are (path, label)."""

    def document() -> dict[str, Any]:
        if api.openapi_schema is None:
            api.openapi_schema = _document(api, webhooks)
        return api.openapi_schema

    return document


def _document(api: FastAPI, webhooks: Sequence[tuple[str, str]]) -> dict[str, Any]:
    document = get_openapi(title=api.title, version=api.version, description=_DESCRIPTION, routes=api.routes)
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            operation["security"] = (
                [] if path in _WITHOUT_TOKEN else [{"token": []}, *([{}] if method == "get" else [])]
            )
            for status in operation["responses"].keys() & {"200", "202"}:
                described = operation["responses"][status]["content"].get("application/json")
                if described is not None:
                    described["example"] = json.loads(described["example"])
    schemas: dict[str, Any] = {}
    paths = {path: ingest_path(label) for path, label in webhooks} | document["paths"]
    document["paths"] = _without_definitions(paths, schemas)
    for name in ("EventJson", "EventInFull"):
        schemas[name]["oneOf"] = [{"required": ["data"]}, {"required": ["data_base64"]}]
    document["components"] = {"schemas": dict(sorted(schemas.items())), "securitySchemes": {"token": _TOKEN}}
    return document


def _without_definitions(part: Any, schemas: dict[str, Any]) -> Any:
    """Return a part of the document with the `$defs` of its schemas moved to `schemas`."""
    if not isinstance(part, dict):
        return part
    schemas.update(part.get("$defs", {}))
    return {name: _without_definitions(value, schemas) for name, value in part.items() if name != "$defs"}
