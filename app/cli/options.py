"""Options that several commands share, and the times that people write. Quick to import, as --help needs them."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.times import time_of, utc_now

if TYPE_CHECKING:
    from app.settings import Settings

_LARGEST = 2**63 - 1  # the databases' integers


def _remember_debug(context: typer.Context, debug: bool) -> bool:
    context.find_root().obj["debug"] = debug
    return debug


def settings_of(config: Path | None, *, host: str | None = None, port: int | None = None) -> Settings:
    """Load the settings; `host` and `port` are before those of the file. Raises ConfigurationError."""
    from app.settings import load

    return load(config, os.environ, host=host, port=port)


def store_settings_of(config: Path | None) -> Settings:
    """Load the settings for a command that only uses the store: no secret but the store's has to be there."""
    from app.settings import load

    return load(config, os.environ, for_reading=True)


def parse_time(text: str) -> datetime:
    """The aware time of an option's value, by this machine's clock. Raises BadParameter."""
    try:
        return time_of(text, utc_now())
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def rate_of(text: str) -> float:
    """How many a second an option such as "50/s" names. Raises BadParameter."""
    from ingest.settings.quantities import parse_rate

    try:
        return parse_rate(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        envvar="HEADRACE_CONFIG",
        help="The configuration file. Default: headrace.toml in this folder, where there is one.",
    ),
]
Debug = Annotated[
    bool,
    typer.Option("--debug", envvar="HEADRACE_DEBUG", callback=_remember_debug, help="Show tracebacks of errors."),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document for programs instead of a table for people.")]
Source = Annotated[str | None, typer.Option(metavar="LABEL", help="Only what came by this source.")]
Since = Annotated[
    datetime | None,
    typer.Option(parser=parse_time, metavar="TIME", help="Published at or after: RFC 3339, or 2h, 3d, 30m ago."),
]
Until = Annotated[
    datetime | None, typer.Option(parser=parse_time, metavar="TIME", help="Published before: RFC 3339, or 2h, 3d ago.")
]
NoticedSince = Annotated[
    datetime | None,
    typer.Option(parser=parse_time, metavar="TIME", help="Noticed at or after: RFC 3339, or 2h, 3d, 30m ago."),
]
NoticedUntil = Annotated[
    datetime | None, typer.Option(parser=parse_time, metavar="TIME", help="Noticed before: RFC 3339, or 2h, 3d ago.")
]
Product = Annotated[str | None, typer.Option(metavar="NAME", help="Only of this product.")]
Device = Annotated[str | None, typer.Option(metavar="ID", help="Only of this device.")]
Limit = Annotated[int, typer.Option(min=1, max=1000, metavar="N", help="At most so many.")]
After = Annotated[
    int | None,
    typer.Option(
        min=0, max=_LARGEST, metavar="N", help="Go on behind this position, oldest first; default: the newest ones."
    ),
]
