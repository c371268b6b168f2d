"""A process from start to end: it binds its address, prepares the store, and serves until it is told to stop."""

from __future__ import annotations

import gc
import os
import socket
import sys
from collections.abc import Sequence
from contextlib import ExitStack

import structlog

from app.main import Companion, Headrace
from app.settings import Settings
from app.stopping import outlive_hangups, stop_on_signals
from ingest.errors import ConfigurationError, StoreUnavailable
from storage.engine import open_database
from storage.migrate import migrate, require_newest
from storage.served_file import served_alone

# Short turns: a thread that reads must not wait five milliseconds for a busy event loop at every statement.
_SWITCH_SECONDS = 0.001
_BACKLOG = 4096
_GC_THRESHOLD = 50_000  # events hold no cycles: looking for them at every 700th container cost 3 % of the time

log = structlog.get_logger(__name__)


async def prepare_store(url: str, *, spooled: bool = False) -> None:
    """Bring the schema up to date: SQLite by itself, PostgreSQL only by `headrace migrate`. Raises SchemaBehind.

    `spooled`: a PostgreSQL that is away is looked at when it is there.

    A migration takes as long as it takes, so it is not asked of the process that is killed where it does not answer.
    """
    database = open_database(url)
    try:
        if database.dialect == "sqlite":
            await migrate(database)
        else:
            await require_newest(database)
    except StoreUnavailable as error:
        if not spooled:
            raise
        log.warning("started_without_store", error=str(error), consequence="the spool takes what comes")
    finally:
        await database.close()


async def serve(settings: Settings, companions: Sequence[Companion] = ()) -> None:
    """Run the service until SIGTERM or SIGINT.

    Raises ConfigurationError where the address cannot be bound, StoreUnavailable or SchemaBehind where the store
    cannot be used.
    """
    sys.setswitchinterval(_SWITCH_SECONDS)
    outlive_hangups()
    with ExitStack() as served:
        listening = served.enter_context(_listen(settings.server.host, settings.server.port))
        url = settings.store.url.value()
        served.enter_context(served_alone(url))
        await prepare_store(url, spooled=settings.store.spool is not None)
        headrace = Headrace(
            settings, open_database(url, write_apart=True), readers=open_database(url, write_apart=True)
        )
        stop_on_signals(headrace.stop, settings.server.drain_delay.total_seconds())
        gc.collect()
        gc.freeze()  # what lives as long as the process need not be looked through again and again
        gc.set_threshold(_GC_THRESHOLD)
        await headrace.run(listening, companions)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host.strip("[]"), port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise ConfigurationError(
            f"server.host, server.port: cannot listen on {host}:{port}: {os.strerror(error.errno or 0)}"
        ) from None
