"""The commands before and between runs: check the configuration, migrate the database."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from rich.console import Console

from app.cli.endpoints import try_sources
from app.cli.faults import Fault
from app.cli.output import show, show_table
from app.cli.store import opened, sqlite_file
from app.settings import Settings, describe, recommendations
from ingest.errors import ConfigurationError, StoreUnavailable
from ingest.times import rfc3339
from storage.database import Database, DataRefused
from storage.migrate import index_progress, migrate, newest_revision, revision
from storage.rows import from_micros
from storage.spool_file import totals_of

_TELL_SECONDS = 10.0


def show_configuration(settings: Settings, *, connect: bool) -> None:
    """Print what would run; `connect` tries store, sources and all handlers too.

    Raises ConfigurationError, which names the key.
    """
    show_table(("key", "value"), describe(settings), empty="")
    if settings.store.spool is not None:
        show(f"store.spool: {_spool_state(settings.store.spool)}")
    if connect:
        show(f"store.url: {asyncio.run(_store_state(settings))}")
        for line in try_sources(settings):
            show(line)
    for label, handler in settings.handlers.items():
        if connect or handler.is_checked_always(settings.folder):
            handler.build(label, settings.folder)
            show(f"handlers.{label}: can be called")
    for recommended in recommendations(settings):
        show(recommended)
    show("The configuration is valid.")


def migrate_store(settings: Settings) -> None:
    """Bring the database to the newest schema and say from which. Raises Fault where the store cannot be used."""
    console = Console(file=sys.stderr)
    with console.status("Bringing the database to the newest schema"):
        before, after = asyncio.run(_migrated(settings, console.print))
    if before == after:
        show(f"The database is at schema {after}, the newest already.")
    else:
        show(f"The database went from schema {before or 'none'} to {after}.")


async def _migrated(settings: Settings, tell: Callable[[str], None]) -> tuple[str | None, str]:
    async with opened(settings) as database:
        return await migrate_telling(database, tell)


async def migrate_telling(
    database: Database, tell: Callable[[str], None], every_seconds: float = _TELL_SECONDS
) -> tuple[str | None, str]:
    """Migrate, which may take hours, and tell now and then that it goes on. Returns and raises as `migrate`."""
    began = time.monotonic()
    migrating = asyncio.create_task(migrate(database))
    while not (await asyncio.wait([migrating], timeout=every_seconds))[0]:
        with suppress(StoreUnavailable):  # it is about the progress only
            step = await index_progress(database)
            tell(f"{time.monotonic() - began:.0f} s so far{f': {step}' if step else ''}")
    return await migrating


async def _store_state(settings: Settings) -> str:
    """What `serve` would find. Raises ConfigurationError where it would refuse."""
    newest = newest_revision()
    file = sqlite_file(settings)
    if file is not None and not file.exists():
        folder = file.absolute().parent
        if folder.is_dir() and os.access(folder, os.W_OK):
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


def _spool_state(path: Path) -> str:
    """What waits in the spool, whether a server runs or not. Raises ConfigurationError where none can be made."""
    if not os.access(path.absolute().parent, os.W_OK):
        raise ConfigurationError(f"store.spool: expected a folder that is there and may be written, for {path}")
    try:
        waiting = asyncio.run(totals_of(path))
    except (StoreUnavailable, DataRefused) as error:
        raise ConfigurationError(f"store.spool: {path} cannot be read: {error}") from error
    if waiting.oldest_at is None:
        return "nothing waits in it"
    return f"{waiting.records} records wait in it since {rfc3339(from_micros(waiting.oldest_at))}; serve drains it"
