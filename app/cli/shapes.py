"""Rows of the store as JSON, in the shapes of the HTTP API, and as cells of tables."""

from __future__ import annotations

import base64
from typing import Any

from app.cli.listening import listening_json, patience_of
from app.event_json import EventJson, event_json
from app.row_json import handler_json, open_gap_json, time_json
from app.settings import Settings
from ingest.event import DUPLICATES, Event, Mode
from ingest.times import rfc3339
from storage.queries import DeadLetterRow, GapRow, HandlerRow, RejectRow, SourceTotals

EVENT_HEADINGS = ("position", "published at", "source", "device", "name", "data")
GAP_HEADINGS = ("id", "since", "until", "source", "mode", "cause", "seconds", "suspected")
REJECT_HEADINGS = ("id", "received at", "source", "mode", "reason", "body")
SOURCE_HEADINGS = (
    *("source", "mode", "product", "state", "since", "streams", "covered until"),
    *("stored", "duplicate", "rejected", "ignored", "expired", "last counted minute"),
)
HANDLER_HEADINGS = ("handler", "state", "position", "head", "lag", "lag s", "retries", "dead", "holder")
DEAD_HEADINGS = ("position", "id", "device", "name", "attempts", "error")

_SHOWN_BYTES = 200


def event_cells(event: Event) -> tuple[object, ...]:
    """An event under EVENT_HEADINGS."""
    json = event_json(event)
    return (event.position, json["published_at"], event.source, event.device, event.name, _data_cell(json))


def gap_cells(row: GapRow) -> tuple[object, ...]:
    """A gap under GAP_HEADINGS."""
    gap = row.gap
    until = time_json(gap.until) or "(open)"
    counts = (round(row.seconds, 1), round(gap.suspected, 1))
    return (row.id, rfc3339(gap.since), until, row.source, row.mode, gap.cause.value, *counts)


def reject_cells(row: RejectRow) -> tuple[object, ...]:
    """A reject under REJECT_HEADINGS; bytes that are no UTF-8 are spelled out."""
    reject = row.reject
    body = reject.body[:_SHOWN_BYTES].decode(errors="backslashreplace")
    return (row.id, rfc3339(reject.received_at), reject.source, reject.mode, reject.reason.value, body)


def source_json(
    source: str, mode: Mode, totals: SourceTotals | None, lasting: GapRow | None, settings: Settings
) -> dict[str, Any]:
    """What a source and mode brought, over all processes and restarts; `product` is null where it is not configured."""
    counts = totals.counts if totals else {}
    kinds = {kind.value: counts.get(kind, 0) for kind in sorted(DUPLICATES)}
    return {
        "source": source,
        "mode": mode,
        "product": settings.sources[source].product if source in settings.sources else None,
        "counts": {
            "stored": counts.get("stored", 0),
            "duplicate": sum(kinds.values()),
            "rejected": counts.get("rejected", 0),
            "ignored": counts.get("ignored", 0),
            "expired": counts.get("expired", 0),
        },
        "duplicate_kinds": kinds,
        "last_minute": time_json(totals.last_minute if totals else None),
        "open_gap": open_gap_json(lasting.gap, lasting.seconds) if lasting else None,
        **listening_json(totals.covered if totals else None, lasting, patience_of(settings, source, mode)),
    }


def source_cells(json: dict[str, Any]) -> tuple[object, ...]:
    """What `source_json` gave, under SOURCE_HEADINGS."""
    streams = None if json["state"] is None else len(json["streams"])
    listening = (json["state"], json["since"], streams, json["covered_until"])
    totals = (*json["counts"].values(), json["last_minute"])
    return (json["source"], json["mode"], json["product"] or "(gone)", *listening, *totals)


def configured_handler_json(row: HandlerRow, settings: Settings) -> dict[str, Any]:
    """A handler as the API shows it. State `removed`: it has a cursor, and the configuration does not name it."""
    json = handler_json(row)
    if not row.running and row.lag.handler not in settings.handlers:
        json["state"] = "removed"
    return json


def handler_cells(json: dict[str, Any]) -> tuple[object, ...]:
    """What `configured_handler_json` gave, under HANDLER_HEADINGS."""
    *shown, _expires = json.values()
    return tuple(round(value, 1) if isinstance(value, float) else value for value in shown)


def dead_cells(row: DeadLetterRow) -> tuple[object, ...]:
    """A dead letter under DEAD_HEADINGS."""
    event = row.event
    of_event = (None, None, "(expired)") if event is None else (event.id, event.device, event.name)
    return (row.position, *of_event, row.attempts, row.error)


def _data_cell(json: EventJson) -> str | None:
    if "data_base64" in json:
        return f"({len(base64.b64decode(json['data_base64']))} bytes)"
    return json["data"]
