"""The commands that act on handlers and their dead letters: each one's options and help.

What a command needs is imported when it runs, so that --help is quick.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

import typer

from app.cli.options import After, Config, Debug, Json, Limit, parse_time, rate_of, settings_of, store_settings_of
from ingest.delivery import FailureCause

HandlerName = Annotated[str, typer.Argument(metavar="HANDLER", help="The label of the handler.", show_default=False)]
Cause = Annotated[
    FailureCause | None,
    typer.Option(
        "--cause", metavar="CAUSE", help=f"Only where the last attempt failed by it: {', '.join(FailureCause)}."
    ),
]
Ids = Annotated[
    list[UUID] | None, typer.Option("--id", metavar="ID", help="The id of an event; may be given several times.")
]


def dead(
    handler: Annotated[
        str | None, typer.Argument(metavar="[HANDLER]", help="Only of this handler.", show_default=False)
    ] = None,
    cause: Cause = None,
    by_cause: Annotated[
        bool, typer.Option("--by-cause", help="How many there are of each cause and error, the most frequent first.")
    ] = False,
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete those of --id, --cause, or --all, of the HANDLER.")
    ] = False,
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
      headrace dead alerts --cause timeout
      headrace dead --by-cause
      headrace dead alerts --delete --all
    """
    from app.cli import dead_letters
    from app.cli.listing import Asked
    from storage.dead_letters import Chosen

    if not delete and (ids or everything):
        raise typer.BadParameter("goes with --delete", param_hint="--id, --all")
    if delete:
        if handler is None:
            raise typer.BadParameter("goes with a HANDLER", param_hint="--delete")
        if by_cause:
            raise typer.BadParameter("shows, and goes not with --delete", param_hint="--by-cause")
        _require_one(ids, cause, everything=everything)
        dead_letters.delete(store_settings_of(config), handler, Chosen(ids or None, cause))
        return
    if by_cause:
        dead_letters.show_causes(store_settings_of(config), handler, cause, as_json=as_json)
        return
    if handler is None and after is not None:
        raise typer.BadParameter("goes with a HANDLER: each has positions of its own", param_hint="--after")
    dead_letters.show_dead(store_settings_of(config), handler, cause, Asked(after, limit), as_json=as_json)


def redrive(
    handler: Annotated[str, typer.Argument(metavar="HANDLER", help="Whose dead letters.", show_default=False)],
    ids: Ids = None,
    cause: Cause = None,
    since: Annotated[
        datetime | None,
        typer.Option(parser=parse_time, metavar="TIME", help="Failed first at or after: RFC 3339, or 2h, 3d, 30m ago."),
    ] = None,
    until: Annotated[
        datetime | None,
        typer.Option(parser=parse_time, metavar="TIME", help="Failed first before: RFC 3339, or 2h, 3d ago."),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All of the handler's dead letters.")] = False,
    rate: Annotated[
        float | None,
        typer.Option(parser=rate_of, metavar="RATE", help="At most so many: 50/s, 30/m, 10/h. Default: no limit."),
    ] = None,
    config: Config = None,
    debug: Debug = False,
) -> None:
    """Give dead letters back to their handler.

    Those that meet every condition that is given. They have all their attempts before them again. A running server
    notices within five seconds; otherwise they are delivered when it starts. It may be interrupted, and run again for
    the others.

    \b
    Example:
      headrace redrive alerts --id 0199f3a2-7c11-8b52-9f0e-3c5a7d1e2f40
      headrace redrive alerts --cause timeout --since 2h --rate 50/s
    """
    from app.cli import dead_letters
    from storage.dead_letters import Chosen

    narrowed = bool(ids) or any(condition is not None for condition in (cause, since, until))
    if narrowed is everything:
        raise typer.BadParameter(
            "give either --all, or one or several of the others", param_hint="--id, --cause, --since, --until, --all"
        )
    dead_letters.redrive(store_settings_of(config), handler, Chosen(ids or None, cause, since, until), rate)


def _require_one(ids: list[UUID] | None, cause: FailureCause | None, *, everything: bool) -> None:
    if [bool(ids), cause is not None, everything].count(True) != 1:
        raise typer.BadParameter(
            "give either --id ID (once or several times), --cause CAUSE or --all", param_hint="--id, --cause, --all"
        )


def pause(handler: HandlerName, config: Config = None, debug: Debug = False) -> None:
    """Let a handler deliver nothing until `headrace resume`.

    Every running server obeys within five seconds. Its events stay, but for those that get older than store.retention
    while it is paused.

    \b
    Example:
      headrace pause alerts
    """
    from app.cli.pausing import pause_handler

    pause_handler(store_settings_of(config), handler)


def resume(handler: HandlerName, config: Config = None, debug: Debug = False) -> None:
    """Let a paused handler deliver again, from where it was paused.

    \b
    Example:
      headrace resume alerts
    """
    from app.cli.pausing import resume_handler

    resume_handler(store_settings_of(config), handler)


def test_handler(
    handler: HandlerName,
    id_: Annotated[
        UUID | None, typer.Option("--id", metavar="ID", help="The id of a stored event; default: a sample.")
    ] = None,
    config: Config = None,
    debug: Debug = False,
) -> None:
    """Deliver one event now, by the handler as it is configured, and print what it answered. Exit 1 where it failed.

    A server need not run. No cursor and no dead letter changes.

    \b
    Example:
      headrace test-handler alerts
    """
    from app.cli.trying import try_handler

    try_handler(settings_of(config), handler, id_)


COMMANDS = (dead, redrive, pause, resume, test_handler)
