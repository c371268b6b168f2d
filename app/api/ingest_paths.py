"""The OpenAPI document's words on a webhook's path; the endpoint itself stands in front of FastAPI."""

from __future__ import annotations

from typing import Any

from app.api.replies import problem_reply

_PARTICLE = {
    "event": "temperature",
    "data": '{"t":21.5}',
    "coreid": "e00fce682e79a004f1e69a2b",
    "published_at": "2026-07-28T16:53:05.616Z",
}
_OTHER = {**_PARTICLE, "data": '{"t":21.6}', "published_at": "2026-07-28T16:53:15.611Z"}
_LINE = '{"event":"temperature","data":"21.5","coreid":"e00fce682e79a004f1e69a2b"}\n'
_EVENT = {"type": "object", "additionalProperties": True}

_BODY = {
    "required": True,
    "description": "The body decides: first byte `{` or `[` is JSON whatever the Content-Type says. gzip is accepted.",
    "content": {
        "application/json": {
            "schema": {"anyOf": [_EVENT, {"type": "array", "items": _EVENT, "maxItems": 10_000}]},
            "examples": {
                "one": {"summary": "one event", "value": _PARTICLE},
                "object": {"summary": "data as an object", "value": {**_PARTICLE, "data": {"t": 21.5}}},
                "binary": {
                    "summary": "data as bytes",
                    "value": {**_PARTICLE, "data": "data:application/octet-stream;base64,pyKYHEAbm4A="},
                },
                "array": {"summary": "several events", "value": [_PARTICLE, _OTHER]},
            },
        },
        "application/x-www-form-urlencoded": {"schema": _EVENT, "example": _PARTICLE},
        "application/x-ndjson": {"schema": {"type": "string"}, "example": _LINE * 2},
    },
}


def ingest_path(label: str) -> dict[str, Any]:
    """Return the path item of the webhook source `label`."""
    return {method: _operation(label, method) for method in ("post", "put")}


def _operation(label: str, method: str) -> dict[str, Any]:
    return {
        "tags": ["ingest"],
        "summary": f"Events for the source {label}",
        "description": "2xx means committed. A batch is answered by its worst element; sending it again is safe.",
        "operationId": f"ingest_{label}_{method}",
        "security": [],
        "requestBody": _BODY,
        "responses": {
            "200": _RECEIPT,
            "204": {"description": "Committed: every element is stored, a duplicate, ignored, or kept as a reject"},
            **{str(status): problem_reply(status, detail) for status, detail in _ANSWERS.items()},
        },
    }


_RECEIPT = {
    "description": "Committed, or a duplicate: the answer to one event, and no batch, whose name webhook.receipt names",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "properties": {"id": {"type": "string", "format": "uuid"}},
                "required": ["id"],
                "additionalProperties": False,
            },
            "example": {"id": "0199f3a2-7c11-8b52-9f0e-3c5a7d1e2f40"},
        }
    },
}
_ANSWERS = {
    401: "Bad or no credentials; nothing is stored",
    403: "A request of another web page, where the server listens on loopback",
    404: "No source has this path",
    405: "Neither POST nor PUT",
    413: "More than max_body, than 10,000 elements, or than the inbox holds",
    415: "A Content-Encoding other than gzip, or a body that is neither JSON nor a form",
    422: "on_reject = refuse: undecodable, and kept as a reject all the same",
    503: "Not stored now: send it again after Retry-After seconds",
}
