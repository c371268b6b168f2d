"""Dead letters shown, given back to their handler, and deleted, whether a server runs or not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from uuid import UUID

from app.cli.faults import Fault
from app.cli.listing import Asked
from app.cli.output import show, show_json, show_table
from app.cli.store import ask, require_handler
from app.settings import Settings
from storage import dead_letters
from storage.engine import Database, Work
from storage.queries.dead_letters import DeadLetterRow, dead_page, dead_positions
from storage.queries.handlers import handler_names
from storage.queries.page import Page

_HEADINGS = ("handler", "position", "id", "device", "name", "attempts", "error")


def show_dead(settings: Settings, handler: str | None, asked: Asked, *, as_json: bool) -> None:
    """Print the dead letters of a handler, or of every one that ever ran. Raises Fault where the handler never did."""

    async def question(database: Database) -> dict[str, Page[DeadLetterRow]]:
        names = await database.read(handler_names) if handler is None else [await require_handler(database, handler)]
        return {name: await database.read(dead_page, name, asked.span) for name in names}

    pages = asyncio.run(ask(settings, question))
    found = {name: asked.listed(page) for name, page in pages.items()}
    if as_json:
        each = [{"handler": name, **some.document("dead")} for name, some in found.items()]
        show_json(each[0] if handler else {"handlers": each})
        return
    cells = [(name, *_cells(row)) for name, some in found.items() for row in some.rows]
    show_table(_HEADINGS, cells, empty="There are no dead letters.")
    for some in found.values():
        some.hint()


def give_back(settings: Settings, handler: str, ids: Sequence[UUID] | None) -> None:
    """Redrive the dead letters of these events, or all. Raises Fault for a handler that never ran, or ids not dead."""
    _act(settings, handler, ids, dead_letters.give_back, lambda count: f"{handler} gets {_letters(count)} again.")


def delete(settings: Settings, handler: str, ids: Sequence[UUID] | None) -> None:
    """Delete the dead letters of these events, or all. Raises Fault for a handler that never ran, or ids not dead."""
    _act(settings, handler, ids, dead_letters.remove, lambda count: f"{_letters(count)} of {handler} deleted.")


def _act(
    settings: Settings, handler: str, ids: Sequence[UUID] | None, step: Work[..., int], done: Callable[[int], str]
) -> None:
    async def question(database: Database) -> tuple[int, Sequence[UUID]]:
        await require_handler(database, handler)
        unknown = [id_ for id_ in ids or () if not await database.read(dead_positions, handler, [id_])]
        chosen = dead_letters.Chosen(ids=ids or None)
        return sum([count async for count in dead_letters.each_step(database, step, handler, chosen)]), unknown

    count, unknown = asyncio.run(ask(settings, question))
    show(done(count))
    if unknown:
        raise Fault(f"these are no dead letters of {handler}: {', '.join(map(str, unknown))}")


def _cells(row: DeadLetterRow) -> tuple[object, ...]:
    event = row.event
    of_event = (None, None, "(expired)") if event is None else (event.id, event.device, event.name)
    return (row.position, *of_event, row.attempts, row.error)


def _letters(count: int) -> str:
    return f"{count} dead letter{'' if count == 1 else 's'}"
