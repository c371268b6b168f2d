"""The commands that show the balance: from received to delivered, what did not come, and which ways brought what."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.options import After, Config, Debug, Json, Limit, Source, parse_time, store_settings_of

if TYPE_CHECKING:
    from storage.queries.balance import SourceLosses
    from storage.queries.comparison import ComparisonRow


def balance(as_json: Json = False, config: Config = None, debug: Debug = False) -> None:
    """Show what was received and delivered, with what left at each step, and what did not come.

    Counts are of all processes and restarts. Under each table stands where to look.

    \b
    Example:
      headrace balance
    """
    from app.cli.listing import read
    from app.cli.output import show, show_json, show_rows
    from storage.queries.balance import balance as balance_of

    found = read(store_settings_of(config), balance_of)
    if as_json:
        show_json(found)
        return
    left = ("rejected", "ignored", "duplicate")
    show_rows(("source", "mode", "received", *left, "stored", "expired", "here"), found.sources, empty="Nothing came.")
    show("Look: headrace rejects · headrace events · headrace sources\n")
    numbers = ("missing", "lost", "recovered")
    silent = ("gaps", ("gap s", lambda row: row.gap_seconds), "suspected")
    show_rows(
        ("source", *numbers, *silent, ("seen by", _seen_by)), found.losses, empty="No source ever brought anything."
    )
    show("Look: headrace losses · headrace gaps · headrace comparison\n")
    became = ("unmatched", "delivered", "dead", "parked", "skipped", "deleted")
    show_rows(("handler", "passed", *became, "waiting"), found.handlers, empty="No handler ran on this store yet.")
    show("Look: headrace dead · headrace handlers")


def comparison(
    source: Source = None,
    since: Annotated[
        datetime | None,
        typer.Option(parser=parse_time, metavar="TIME", help="Hours not over then: RFC 3339, or 2h, 3d ago."),
    ] = None,
    until: Annotated[
        datetime | None,
        typer.Option(parser=parse_time, metavar="TIME", help="Hours that began before: RFC 3339, or 2h, 3d ago."),
    ] = None,
    limit: Limit = 100,
    after: After = None,
    as_json: Json = False,
    config: Config = None,
    debug: Debug = False,
) -> None:
    """Show which ways brought the events of each hour, where the same ones come several ways, and what each missed.

    What one way brought and another did not within the grace was lost by that way, or is late while that is slow.

    \b
    Example:
      headrace comparison --source fleet --since 1d
    """
    from app.cli.listing import Asked, show_page
    from app.compared_sources import graces_of
    from storage.queries.comparison import ComparisonFilter, comparison_page

    settings = store_settings_of(config)
    wanted, graces = ComparisonFilter(source, since, until), graces_of(settings.sources)
    show_page(
        settings,
        "comparison",
        Asked(after, limit),
        lambda connection, span: comparison_page(connection, wanted, span, graces),
        ("hour", "source", "modes", "events", ("missed", _missed), ("p50 / p99 s", _transit)),
        empty="Nothing was compared: no source's events come several ways, or their grace is not over.",
        as_json=as_json,
    )


COMMANDS = (balance, comparison)


def _seen_by(losses: SourceLosses) -> str:
    return ", ".join(f"{modes} {events}" for modes, events in losses.seen_by.items())


def _missed(row: ComparisonRow) -> str:
    return ", ".join(f"{way} {miss}" for way, miss in row.missed.items())


def _transit(row: ComparisonRow) -> str:
    return ", ".join(f"{way} {transit.p50:.3g} / {transit.p99:.3g}" for way, transit in row.transit.items())
