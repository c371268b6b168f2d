"""Each command's options and its help; what it does is imported when it runs, so that --help is quick."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from app.cli.options import After, Config, Debug, Json, Limit, Since, Source, Until

if TYPE_CHECKING:
    from app.settings import Settings


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

    run_service(_settings(config, host=host, port=port), demo=demo)


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

    show_configuration(_settings(config), connect=connect)


def migrate(config: Config = None, debug: Debug = False) -> None:
    """Bring the database to the newest schema. An SQLite file that holds something is copied first.

    \b
    Example:
      headrace migrate --config headrace.toml
    """
    from app.cli.upkeep import migrate_store

    migrate_store(_settings(config))


def events(
    product: Annotated[str | None, typer.Option(metavar="NAME", help="Only of this product.")] = None,
    device: Annotated[str | None, typer.Option(metavar="ID", help="Only of this device.")] = None,
    name: Annotated[str | None, typer.Option(metavar="PREFIX", help="Only names that begin so.")] = None,
    source: Source = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 100,
    after: After = None,
    as_json: Json = False,
    config: Config = None,
    debug: Debug = False,
) -> None:
    """Show stored events, the newest last.

    \b
    Example:
      headrace events --device e00fce682e79a004f1e69a2b --name spark/ --since 2h
    """
    from app.cli.reading import Stretch, show_events
    from storage.queries import EventFilter

    wanted = EventFilter(product, device, name, source, since, until)
    show_events(_settings(config), wanted, Stretch(after, limit), as_json=as_json)


def gaps(
    source: Source = None,
    limit: Limit = 100,
    after: After = None,
    as_json: Json = False,
    config: Config = None,
    debug: Debug = False,
) -> None:
    """Show gaps, the newest last: when nothing of a source was listening, why, and what that may have cost.

    \b
    Example:
      headrace gaps --source fleet --limit 20
    """
    from app.cli.reading import Stretch, show_gaps

    show_gaps(_settings(config), source, Stretch(after, limit), as_json=as_json)


def rejects(
    source: Source = None,
    limit: Limit = 100,
    after: After = None,
    as_json: Json = False,
    config: Config = None,
    debug: Debug = False,
) -> None:
    """Show rejects, the newest last: what was authentic but could not become an event, and why.

    \b
    Example:
      headrace rejects --source fleet --limit 20
    """
    from app.cli.reading import Stretch, show_rejects

    show_rejects(_settings(config), source, Stretch(after, limit), as_json=as_json)


def sources(as_json: Json = False, config: Config = None, debug: Debug = False) -> None:
    """Show who is listening, and what each source brought. Counts are of all processes and restarts.

    \b
    Example:
      headrace sources
    """
    from app.cli.reading import show_sources

    show_sources(_settings(config), as_json=as_json)


def handlers(as_json: Json = False, config: Config = None, debug: Debug = False) -> None:
    """Show how far behind each handler is. Retries wait for another try, dead ones for `headrace redrive`.

    \b
    Example:
      headrace handlers --json
    """
    from app.cli.reading import show_handlers

    show_handlers(_settings(config), as_json=as_json)


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
    from app.cli.reading import Stretch

    if not delete and (ids or everything):
        raise typer.BadParameter("goes with --delete", param_hint="--id, --all")
    if delete:
        if handler is None:
            raise typer.BadParameter("goes with a HANDLER", param_hint="--delete")
        _require_choice(ids, everything=everything)
        dead_letters.delete(_settings(config), handler, ids)
        return
    if handler is None and after is not None:
        raise typer.BadParameter("goes with a HANDLER: each has positions of its own", param_hint="--after")
    dead_letters.show_dead(_settings(config), handler, Stretch(after, limit), as_json=as_json)


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
    give_back(_settings(config), handler, ids)


def _require_choice(ids: list[UUID] | None, *, everything: bool) -> None:
    if bool(ids) is everything:
        raise typer.BadParameter("give either --id ID (once or several times) or --all", param_hint="--id, --all")


def _settings(config: Path | None, *, host: str | None = None, port: int | None = None) -> Settings:
    from app.settings import load

    return load(config, os.environ, host=host, port=port)
