"""Dead letters shown, given back to their handler, and deleted, whether a server runs or not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from app.cli.faults import Fault
from app.cli.listing import Asked
from app.cli.output import hint, show, show_json, show_table
from app.cli.progress import progress
from app.cli.store import ask, require_handler
from app.settings import Settings
from storage import dead_letters
from storage.dead_letters import Chosen
from storage.engine import Database, Work
from storage.queries.dead_letters import DeadCauseRow, DeadLetterRow, dead_causes, dead_page, dead_positions
from storage.queries.handlers import handler_names
from storage.queries.page import Page

T = TypeVar("T")

_HEADINGS = ("handler", "position", "id", "device", "name", "attempts", "cause", "error")
_CAUSE_HEADINGS = ("handler", "cause", "count", "first", "last", "error")


def show_dead(settings: Settings, handler: str | None, cause: str | None, asked: Asked, *, as_json: bool) -> None:
    """Print the dead letters of a handler, or of every one that ever ran. Raises Fault where the handler never did."""

    async def page(database: Database, name: str) -> Page[DeadLetterRow]:
        return await database.read(dead_page, name, asked.span, cause)

    found = {name: asked.listed(page) for name, page in _of_each(settings, handler, page).items()}
    if as_json:
        _show_json({name: some.document("dead") for name, some in found.items()}, handler)
        return
    cells = [(name, *_cells(row)) for name, some in found.items() for row in some.rows]
    show_table(_HEADINGS, cells, empty="There are no dead letters.")
    for some in found.values():
        some.hint()


def show_causes(settings: Settings, handler: str | None, cause: str | None, *, as_json: bool) -> None:
    """Print how many dead letters of each cause and error there are. Raises Fault where the handler never ran."""

    async def causes(database: Database, name: str) -> list[DeadCauseRow]:
        return await database.read(dead_causes, name, cause)

    found = _of_each(settings, handler, causes)
    if as_json:
        _show_json({name: {"causes": rows} for name, rows in found.items()}, handler)
        return
    cells = [
        (name, row.cause, row.count, row.first, row.last, row.error) for name, rows in found.items() for row in rows
    ]
    show_table(_CAUSE_HEADINGS, cells, empty="There are no dead letters.")


def redrive(settings: Settings, handler: str, chosen: Chosen, rate: float | None) -> None:
    """Give the chosen dead letters back, at most `rate` a second.

    Raises Fault for a handler that never ran, or ids that are no dead letters.
    """
    _act(
        settings,
        handler,
        chosen,
        dead_letters.give_back,
        rate,
        lambda count: f"{handler} gets {_letters(count)} again.",
    )


def delete(settings: Settings, handler: str, chosen: Chosen) -> None:
    """Delete the chosen dead letters. Raises Fault for a handler that never ran, or ids that are no dead letters."""
    _act(settings, handler, chosen, dead_letters.remove, None, lambda count: f"{_letters(count)} of {handler} deleted.")


def _act(
    settings: Settings,
    handler: str,
    chosen: Chosen,
    step: Work[..., int],
    rate: float | None,
    done: Callable[[int], str],
) -> None:
    count = 0

    async def act(database: Database) -> str:
        nonlocal count
        await require_handler(database, handler)
        ids = chosen.ids or ()
        unknown = [str(id_) for id_ in ids if not await database.read(dead_positions, handler, [id_])]
        with progress(handler, await database.read(dead_letters.count, handler, chosen)) as tell:
            async for changed in dead_letters.each_step(database, step, handler, chosen, rate):
                count += changed
                tell(changed)
        return ", ".join(unknown)

    try:
        unknown = asyncio.run(ask(settings, act))
    except KeyboardInterrupt:
        hint(f"Stopped: {done(count)} Run it again for the others.")
        raise
    show(done(count))
    if unknown:
        raise Fault(f"these are no dead letters of {handler}: {unknown}")


def _of_each(
    settings: Settings, handler: str | None, question: Callable[[Database, str], Awaitable[T]]
) -> dict[str, T]:
    """Return what a question about one handler answers, for this one or for every one that ever ran."""

    async def answers(database: Database) -> dict[str, T]:
        names = await database.read(handler_names) if handler is None else [await require_handler(database, handler)]
        return {name: await question(database, name) for name in names}

    return asyncio.run(ask(settings, answers))


def _show_json(documents: dict[str, dict[str, object]], handler: str | None) -> None:
    each = [{"handler": name, **document} for name, document in documents.items()]
    show_json(each[0] if handler else {"handlers": each})


def _cells(row: DeadLetterRow) -> tuple[object, ...]:
    event = row.event
    of_event = (None, None, "(expired)") if event is None else (event.id, event.device, event.name)
    return (row.position, *of_event, row.attempt_count, row.cause, row.error)


def _letters(count: int) -> str:
    return f"{count} dead letter{'' if count == 1 else 's'}"
