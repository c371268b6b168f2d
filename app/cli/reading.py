"""The commands that read the store: each one's options and help, and what it prints of the struct that it reads.

What a command needs is imported when it runs, so that --help is quick.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from app.cli.options import (
    After,
    Config,
    Debug,
    Device,
    Json,
    Limit,
    NoticedSince,
    NoticedUntil,
    Product,
    Since,
    Source,
    Until,
    store_settings_of,
)
from ingest.sequences.changes import LossState

if TYPE_CHECKING:
    from app.cli.output import Column
    from app.settings import Settings
    from ingest.event_json import EventJson
    from storage.gaps import SourceKey
    from storage.queries.rejects import RejectRow
    from storage.queries.sources import ConfiguredSource, StoredSource

_SHOWN_BYTES = 200


def events(
    product: Product = None,
    device: Device = None,
    name: Annotated[str | None, typer.Option(metavar="PREFIX", help="Only names that begin so.")] = None,
    source: Source = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 100,
    after: After = None,
    id_: Annotated[
        UUID | None, typer.Option("--id", metavar="ID", help="This one alone, with what became of it at each handler.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on with new ones as they are committed, until Ctrl+C.")
    ] = False,
    as_json: Json = False,
    config: Config = None,
    debug: Debug = False,
) -> None:
    """Show stored events, the newest last.

    \b
    Example:
      headrace events --device e00fce682e79a004f1e69a2b --name spark/ --since 2h
      headrace events --follow --name alarm/
      headrace events --id 0199f3a2-7c11-8b52-9f0e-3c5a7d1e2f40
    """
    from app.cli.listing import Asked, show_page
    from storage.queries.events import EventFilter, events_page

    wanted = EventFilter(product, device, name, source, since, until)
    if id_ is not None:
        if follow or after is not None or wanted != EventFilter():
            raise typer.BadParameter("names one event, and goes with no filter", param_hint="--id")
        from app.cli.one_event import show_event

        show_event(store_settings_of(config), id_, as_json=as_json)
    elif follow:
        from app.cli.following import follow_events

        follow_events(store_settings_of(config), wanted, after, as_json=as_json)
    else:
        show_page(
            store_settings_of(config),
            "events",
            Asked(after, limit),
            lambda connection, span: events_page(connection, wanted, span),
            ("position", "published_at", "source", "device", "name", ("data", shown_data)),
            empty="There are no such events.",
            as_json=as_json,
        )


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
    from app.cli.listing import Asked, show_page
    from storage.queries.gaps import gaps_page

    show_page(
        store_settings_of(config),
        "gaps",
        Asked(after, limit),
        lambda connection, span: gaps_page(connection, span, source=source),
        (
            "id",
            "since",
            ("until", lambda gap: gap.until or "(open)"),
            "source",
            "mode",
            "cause",
            "seconds",
            "suspected",
        ),
        empty="There are no gaps.",
        as_json=as_json,
    )


def losses(
    source: Source = None,
    product: Product = None,
    device: Device = None,
    state: Annotated[LossState | None, typer.Option(help="Only numbers that are missing, lost or recovered.")] = None,
    since: NoticedSince = None,
    until: NoticedUntil = None,
    limit: Limit = 100,
    after: After = None,
    as_json: Json = False,
    config: Config = None,
    debug: Debug = False,
) -> None:
    """Show numbers of devices that did not come in their turn, the last noticed last, and what became of them.

    \b
    Example:
      headrace losses --state lost --since 1d
    """
    from app.cli.listing import Asked, show_page
    from storage.queries.losses import LossFilter, losses_page

    wanted = LossFilter(source, product, device, state, since, until)
    show_page(
        store_settings_of(config),
        "losses",
        Asked(after, limit),
        lambda connection, span: losses_page(connection, wanted, span),
        ("id", "noticed_at", "source", "product", "device", "sequence", "state"),
        empty="There are no such losses.",
        as_json=as_json,
    )


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
    from app.cli.listing import Asked, show_page
    from storage.queries.rejects import rejects_page

    show_page(
        store_settings_of(config),
        "rejects",
        Asked(after, limit),
        lambda connection, span: rejects_page(connection, span, source=source),
        ("id", "received_at", "source", "mode", "reason", ("body", _body)),
        empty="There are no rejects.",
        as_json=as_json,
    )


def sources(as_json: Json = False, config: Config = None, debug: Debug = False) -> None:
    """Show who is listening, and what each source brought. Counts are of all processes and restarts.

    \b
    Example:
      headrace sources
    """
    from app.cli.listing import read, show_all
    from storage.queries.sources import stored_sources

    settings = store_settings_of(config)
    rows = read(settings, stored_sources, _configured_sources(settings))
    counts: list[Column] = [(name, _count(name)) for name in ("stored", "duplicate", "rejected", "ignored", "expired")]
    columns: tuple[Column, ...] = (
        *("source", "mode", ("product", lambda row: row.product or "(gone)"), ("state", _state), "since"),
        *(
            ("streams", _streams),
            "covered_until",
            *counts,
            ("auth failures", attrgetter("auth_failures")),
            ("hook echoes", _hook_echoes),
            ("last counted minute", attrgetter("last_minute")),
        ),
    )
    show_all("sources", rows, columns, empty="There are no sources.", as_json=as_json)


def handlers(as_json: Json = False, config: Config = None, debug: Debug = False) -> None:
    """Show how far behind each handler is. Retries wait for another try, dead ones for `headrace redrive`.

    \b
    Example:
      headrace handlers --json
    """
    from app.cli.listing import read, show_all
    from app.cli.output import hint
    from storage.queries.handlers import handler_rows

    settings = store_settings_of(config)
    rows = read(settings, handler_rows)
    columns = (
        *("handler", "state", "position", "head", ("lag", attrgetter("lag_events"))),
        *(("lag s", attrgetter("lag_seconds")), "circuit", "retries", "dead", "holder", "last_error"),
    )
    show_all("handlers", rows, columns, empty="No handler ran on this store yet.", as_json=as_json)
    gone = [row.handler for row in rows if row.handler not in settings.handlers]
    if gone and not as_json:
        hint(f"Not in this configuration: {', '.join(gone)}")


COMMANDS = (events, gaps, losses, rejects, sources, handlers)


def shown_data(event: EventJson) -> str | None:
    """Return an event's data as a table shows it."""
    if isinstance(event.data_base64, bytes):
        return f"({len(event.data_base64)} bytes)"
    return event.data or None


def _body(reject: RejectRow) -> str:
    """Return the beginning of what was sent; bytes that are no UTF-8 are spelled out."""
    return reject.body[:_SHOWN_BYTES].decode(errors="backslashreplace")


def _configured_sources(settings: Settings) -> dict[SourceKey, ConfiguredSource]:
    """Return each source and mode in the order of the configuration; a quiet stream proves itself by its next byte."""
    from storage.gaps import SourceKey
    from storage.queries.sources import ConfiguredSource

    return {
        SourceKey(label, mode): ConfiguredSource(
            source.product, source.sse.idle_timeout.total_seconds() if mode == "sse" else 0.0
        )
        for label, source in settings.sources.items()
        for mode in source.modes
    }


def _state(source: StoredSource) -> str | None:
    """Return the state, and why it is so, as the page shows it."""
    return f"{source.state}: {source.reason}" if source.reason else source.state


def _streams(source: StoredSource) -> int | None:
    return None if source.state is None else len(source.streams)


def _hook_echoes(source: StoredSource) -> str | None:
    """Return what the vendor said of its webhooks, less what it did not."""
    return ", ".join(f"{outcome} {count}" for outcome, count in source.hook_echoes.items() if count) or None


def _count(name: str) -> Callable[[StoredSource], int]:
    return lambda source: source.counts[name]
