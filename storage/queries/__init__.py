"""What can be read from the store, as plain functions of a Connection: `await database.read(function, …)`.

Nothing here writes. The same functions serve the HTTP API and the command line.
"""

from __future__ import annotations

from storage.queries.events import EventFilter, Sighting, event_by_id, events_page, head_position
from storage.queries.gaps import GapRow, gaps_page, open_gaps
from storage.queries.handlers import DeadLetterRow, HandlerRow, dead_page, dead_positions, handler_exists, handler_rows
from storage.queries.page import MAX_PAGE_BYTES, Page, Span
from storage.queries.rejects import RejectRow, rejects_page
from storage.queries.sources import Covered, OpenInterval, SourceTotals, source_totals

__all__ = [
    "MAX_PAGE_BYTES",
    "Covered",
    "DeadLetterRow",
    "EventFilter",
    "GapRow",
    "HandlerRow",
    "OpenInterval",
    "Page",
    "RejectRow",
    "Sighting",
    "SourceTotals",
    "Span",
    "dead_page",
    "dead_positions",
    "event_by_id",
    "events_page",
    "gaps_page",
    "handler_exists",
    "handler_rows",
    "head_position",
    "open_gaps",
    "rejects_page",
    "source_totals",
]
