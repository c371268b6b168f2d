"""The commands that act on handlers and their dead letters: each one's options and help.

What a command needs is imported when it runs, so that --help is quick.
"""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import typer

from app.cli.options import After, Config, Debug, Json, Limit, settings_of

HandlerName = Annotated[str, typer.Argument(metavar="HANDLER", help="The label of the handler.", show_default=False)]
Ids = Annotated[
    list[UUID] | None, typer.Option("--id", metavar="ID", help="The id of an event; may be given several times.")
]


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


def pause(handler: HandlerName, config: Config = None, debug: Debug = False) -> None:
    """Let a handler deliver nothing until `headrace resume`.

    Every running server obeys within five seconds. Its events stay, but for those that get older than store.retention
    while it is paused.

    \b
    Example:
      headrace pause alerts
    """
    from app.cli.pausing import pause_handler

    pause_handler(settings_of(config), handler)


def resume(handler: HandlerName, config: Config = None, debug: Debug = False) -> None:
    """Let a paused handler deliver again, from where it was paused.

    \b
    Example:
      headrace resume alerts
    """
    from app.cli.pausing import resume_handler

    resume_handler(settings_of(config), handler)


COMMANDS = (dead, redrive, pause, resume)
