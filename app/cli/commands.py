"""Each command's options and its help; what it does is imported when it runs, so that --help is quick."""

from __future__ import annotations

import os
from typing import Annotated
from uuid import UUID

import typer

from app.cli import reading
from app.cli.options import After, Config, Debug, Json, Limit, settings_of

Ids = Annotated[
    list[UUID] | None, typer.Option("--id", metavar="ID", help="The id of an event; may be given several times.")
]


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

    migrate_store(settings_of(config))


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


def dead(
    handler: Annotated[
        str | None, typer.Argument(metavar="[HANDLER]", help="Only of this handler.", show_default=False)
    ] = None,
    delete: Annotated[bool, typer.Option("--delete", help="Delete those of --id, or --all, of the HANDLER.")] = False,
    ids: Ids = None,
    everything: Annotated[bool, typer.Option("--all", help="With --delete: all of the handler's.")] = False,
    limit: Limit = 100,
    after: After = None,
    as_json: Json = False,
    config: Config = None,
    debug: Debug = False,
) -> None:
    """Show dead letters, the newest last, or delete them. These are events that a handler gave up.

    They stay, with their events, whatever store.retention says, until they are redriven or deleted.

    \b
    Example:
      headrace dead alerts
      headrace dead alerts --delete --all
    """
    from app.cli import dead_letters
    from app.cli.listing import Asked

    if not delete and (ids or everything):
        raise typer.BadParameter("goes with --delete", param_hint="--id, --all")
    if delete:
        if handler is None:
            raise typer.BadParameter("goes with a HANDLER", param_hint="--delete")
        _require_choice(ids, everything=everything)
        dead_letters.delete(settings_of(config), handler, ids)
        return
    if handler is None and after is not None:
        raise typer.BadParameter("goes with a HANDLER: each has positions of its own", param_hint="--after")
    dead_letters.show_dead(settings_of(config), handler, Asked(after, limit), as_json=as_json)


def redrive(
    handler: Annotated[str, typer.Argument(metavar="HANDLER", help="Whose dead letters.", show_default=False)],
    ids: Ids = None,
    everything: Annotated[bool, typer.Option("--all", help="All of the handler's dead letters.")] = False,
    config: Config = None,
    debug: Debug = False,
) -> None:
    """Give dead letters back to their handler.

    They have all their attempts before them again. A running server notices within five seconds; otherwise they are
    delivered when it starts.

    \b
    Example:
      headrace redrive alerts --id 0199f3a2-7c11-8b52-9f0e-3c5a7d1e2f40
    """
    from app.cli.dead_letters import give_back

    _require_choice(ids, everything=everything)
    give_back(settings_of(config), handler, ids)


def _require_choice(ids: list[UUID] | None, *, everything: bool) -> None:
    if bool(ids) is everything:
        raise typer.BadParameter("give either --id ID (once or several times) or --all", param_hint="--id, --all")


COMMANDS = (serve, check, migrate, health, *reading.COMMANDS, dead, redrive)
