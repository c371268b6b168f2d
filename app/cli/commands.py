"""Each command's options and its help; what it does is imported when it runs, so that --help is quick."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from app.cli import acting, balancing, devices, reading
from app.cli.options import Config, Debug, Json, settings_of, store_settings_of


def serve(
    host: Annotated[str | None, typer.Option(metavar="H", help="Listen there; before server.host.")] = None,
    port: Annotated[int | None, typer.Option(metavar="P", help="Listen there; before server.port.")] = None,
    demo: Annotated[bool, typer.Option("--demo", help="Let a simulated fleet of fifty devices send events.")] = False,
    config: Config = None,
    debug: Debug = False,
) -> None:
    """Run the service until SIGTERM or Ctrl+C. Without a configuration file: SQLite, and one webhook for everything.

    \b
    Example:
      headrace serve --demo
    """
    from app.cli.serving import run_service

    run_service(settings_of(config, host=host, port=port), demo=demo)


def check(
    connect: Annotated[
        bool, typer.Option("--connect", help="Also try the store, each stream and subscription, and handlers.")
    ] = False,
    config: Config = None,
    debug: Debug = False,
) -> None:
    """Validate the configuration. Prints what `serve` would run, or names the key of whatever is wrong in it.

    Whether a store, an endpoint or a handler's function that is not beside the file is really there, only --connect
    can tell.

    \b
    Example:
      headrace check --config headrace.toml --connect
    """
    from app.cli.upkeep import show_configuration

    show_configuration(settings_of(config), connect=connect)


def migrate(config: Config = None, debug: Debug = False) -> None:
    """Bring the database to the newest schema. An SQLite file that holds something is copied first.

    \b
    Example:
      headrace migrate --config headrace.toml
    """
    from app.cli.upkeep import migrate_store

    migrate_store(store_settings_of(config))


def verify(as_json: Json = False, config: Config = None, debug: Debug = False) -> None:
    """Verify that the store balances: what was counted is there, once, and every handler passed what it says it did.

    It only reads, whether a server runs or not. Exit 1 where something differs, which is named with the rows to look
    at.

    \b
    Example:
      headrace verify --config headrace.toml
    """
    from app.cli.verifying import verify_store

    verify_store(store_settings_of(config), as_json=as_json)


def health(
    ready: Annotated[bool, typer.Option("--ready", help="Ask /readyz, which says whether it takes events.")] = False,
    config: Config = None,
    debug: Debug = False,
) -> None:
    """Ask a running server whether it lives: /livez at the configuration's host and port. For health checks.

    It reads nothing but the server's address, and needs no secret. Exit 0 where the answer is 200, else 1.

    \b
    Example:
      headrace health --ready
    """
    from app.cli.health import show_health

    show_health(config, os.environ, ready=ready)


def copy(
    source: Annotated[str, typer.Option("--from", metavar="URL", help="The SQLite store, sqlite:///file.")],
    target: Annotated[str, typer.Option("--to", metavar="URL", help="PostgreSQL: an empty database, or a copy begun.")],
    config: Config = None,
    debug: Debug = False,
) -> None:
    """Copy a SQLite store to PostgreSQL, as it is, and compare both sides. Exit 1 where they differ.

    No server may run on either. Interrupted, it goes on where it was when it is run again. What differs is named.

    \b
    Example:
      headrace copy --from sqlite:///headrace.db --to postgresql://user@host/database
    """
    from app.cli.copying import copy_store

    copy_store(source, target)


_READING = (*reading.COMMANDS, *balancing.COMMANDS, *devices.COMMANDS)
COMMANDS = (serve, check, migrate, verify, health, copy, *_READING, *acting.COMMANDS)
