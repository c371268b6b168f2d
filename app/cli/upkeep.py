"""The commands before and between runs: check the configuration, migrate the database."""

from __future__ import annotations

import asyncio
import os
import sys

from rich.console import Console

from app.cli.endpoints import try_sources
from app.cli.faults import Fault
from app.cli.output import show, show_table
from app.cli.store import opened, sqlite_file
from app.handlers import check
from app.settings import Settings, describe, recommendations
from ingest.errors import ConfigurationError
from storage.migrate import migrate, newest_revision, revision


def show_configuration(settings: Settings, *, connect: bool) -> None:
    """Print what would run; `connect` tries store, sources and all handlers too.

    Raises ConfigurationError, which names the key.
    """
    show_table(("key", "value"), describe(settings), empty="")
    if connect:
        show(f"store.url: {asyncio.run(_store_state(settings))}")
        for line in try_sources(settings):
            show(line)
    for label, handler in settings.handlers.items():
        if check(label, handler, settings.folder, everywhere=connect):
            show(f"handlers.{label}: can be called")
    for recommended in recommendations(settings):
        show(recommended)
    show("The configuration is valid.")


def migrate_store(settings: Settings) -> None:
    """Bring the database to the newest schema and say from which. Raises Fault where the store cannot be used."""
    with Console(file=sys.stderr).status("Bringing the database to the newest schema"):
        before, after = asyncio.run(_migrated(settings))
    if before == after:
        show(f"The database is at schema {after}, the newest already.")
    else:
        show(f"The database went from schema {before or 'none'} to {after}.")


async def _migrated(settings: Settings) -> tuple[str | None, str]:
    async with opened(settings) as database:
        return await migrate(database)


async def _store_state(settings: Settings) -> str:
    """What `serve` would find. Raises ConfigurationError where it would refuse."""
    newest = newest_revision()
    file = sqlite_file(settings)
    if file is not None and not file.exists():
        if os.access(file.absolute().parent, os.W_OK):
            return f"{file} is not there yet, serve makes it"
        raise ConfigurationError(f"store.url: expected a folder that is there and may be written, for {file}")
    try:
        async with opened(settings) as database:
            found = await revision(database)
    except Fault as error:
        raise ConfigurationError(f"store.url: {error}") from error
    if found == newest:
        return f"reached, at the newest schema ({newest})"
    if file is not None:
        return f"reached, at schema {found or 'none'}: serve brings it to {newest}"
    raise ConfigurationError(f"store.url: expected schema {newest}, not {found or 'none'}: run `headrace migrate`")
