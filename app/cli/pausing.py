"""A handler paused and resumed, whether a server runs or not."""

from __future__ import annotations

import asyncio

from app.cli.output import show
from app.cli.store import ask, require_handler
from app.settings import Settings
from storage import pauses
from storage.engine import Database, Work

_BECAUSE = "asked for by headrace pause"


def pause_handler(settings: Settings, handler: str) -> None:
    """Pause a handler. Raises Fault for one that never ran."""
    changed = asyncio.run(ask(settings, lambda database: _write(database, handler, pauses.pause, _BECAUSE)))
    show(f"{handler} {'is paused now' if changed else 'was paused already'}; `headrace resume {handler}` ends it.")


def resume_handler(settings: Settings, handler: str) -> None:
    """Resume a handler. Raises Fault for one that never ran."""
    changed = asyncio.run(ask(settings, lambda database: _write(database, handler, pauses.resume)))
    show(f"{handler} {'delivers again' if changed else 'was not paused'}.")


async def _write(database: Database, handler: str, work: Work[..., bool], *arguments: str) -> bool:
    await require_handler(database, handler)
    return await database.write(work, handler, *arguments)
