"""One event in full: its parts, who else saw it, and what became of it at each handler."""

from __future__ import annotations

import asyncio
from uuid import UUID

from app.cli.faults import Fault
from app.cli.output import show, show_json, show_rows, show_table
from app.cli.reading import shown_data
from app.cli.store import ask
from app.handlers.filters import make_filter
from app.settings import Settings
from storage.queries.event_deliveries import ConfiguredHandler
from storage.queries.events import event_by_id


def show_event(settings: Settings, id_: UUID, *, as_json: bool) -> None:
    """Print an event as the API shows it. Raises Fault where there is none of this id."""
    known = [
        ConfiguredHandler(label, make_filter(handler), handler.start == "beginning")
        for label, handler in settings.handlers.items()
    ]
    event = asyncio.run(ask(settings, lambda database: database.read(event_by_id, id_, known)))
    if event is None:
        raise Fault(f"there is no event {id_} in the store: `headrace events --json` shows ids")
    if as_json:
        show_json(event)
        return
    parts = ("id", "position", "product", "device", "name", "content_type", "published_at", "received_at", "source")
    rows = [(part.replace("_", " "), getattr(event, part)) for part in (*parts, "mode")]
    rows += [(name, value) for name, value in event.attributes.items()]
    show_table(("key", "value"), [*rows, ("data", shown_data(event))], empty="")
    if event.sightings:
        show("")
        show_rows(("source", "mode", "received_at"), event.sightings, empty="")
    if event.deliveries:
        show("")
        columns = ("handler", "state", ("attempts", lambda row: row.attempt_count), ("error", _last_error))
        show_rows(columns, event.deliveries, empty="")


def _last_error(delivery: object) -> str | None:
    attempts = getattr(delivery, "attempts", ())
    return attempts[-1].error if attempts else None
