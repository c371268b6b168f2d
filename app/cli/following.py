"""Events as they are committed, by whichever process: a line each, until somebody has seen enough."""

from __future__ import annotations

import asyncio

from app.cli.output import show, show_json
from app.cli.reading import shown_data
from app.cli.store import ask
from app.settings import Settings
from app.visible import visible
from ingest.event_json import EventJson
from storage.engine import Database
from storage.head import head_position
from storage.queries.events import EventFilter, events_page
from storage.queries.page import PageSpan

_EVERY_SECONDS = 0.5
_PAGE = 1000
_WIDTHS = (10, 24, 12, 24, 20)  # of all but the last column: nobody knows yet how wide they will have to be


def follow_events(settings: Settings, wanted: EventFilter, after: int | None, *, as_json: bool) -> None:
    """Print the events behind `after`, by default behind the newest, as they come; JSON is a document a line."""
    asyncio.run(ask(settings, lambda database: _follow(database, wanted, after, as_json=as_json)))


async def _follow(database: Database, wanted: EventFilter, after: int | None, *, as_json: bool) -> None:
    position = await database.read(head_position) if after is None else after
    while True:
        page = await database.read(events_page, wanted, PageSpan(_PAGE, after=position))
        for event in page.rows:
            if as_json:
                show_json(event, indent=None)
            else:
                show(_line(event))
        position = page.last
        if page.next is None:
            await asyncio.sleep(_EVERY_SECONDS)


def _line(event: EventJson) -> str:
    cells = (event.position, event.published_at, event.source, event.device, event.name)
    texts = ["" if cell is None else visible(str(cell)) for cell in cells]
    padded = [text.ljust(width) for text, width in zip(texts, _WIDTHS, strict=True)]
    return "  ".join([*padded, visible(shown_data(event) or "")]).rstrip()
