"""`headrace devices`: what was heard of devices, and which stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from app.cli.options import Config, Debug, Json, Limit, Product, store_settings_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from app.cli.output import Column
    from ingest.times import Time
    from storage.queries.device_rows import DeviceRow


def devices(
    silent: Annotated[
        bool, typer.Option("--silent", help="Only those that stopped, the longest silent first.")
    ] = False,
    missing: Annotated[
        bool, typer.Option("--missing", help="Only those of which numbers are missing or lost.")
    ] = False,
    product: Product = None,
    order: Annotated[
        Literal["device", "-device", "heard", "-heard"] | None,
        typer.Option(help="By id, or by when one was heard last; with - backwards. Default: by id; --silent: heard."),
    ] = None,
    limit: Limit = 100,
    after: Annotated[str | None, typer.Option(metavar="NEXT", help="Go on where a list ended, in its order.")] = None,
    as_json: Json = False,
    config: Config = None,
    debug: Debug = False,
) -> None:
    """Show devices: when each was heard last, what it sends a day, which numbers are missing, since when it is silent.

    A device is silent when it is quiet for its source's `silent_after`. Its last number is unconfirmed then: whether it
    sent anything behind it cannot be known.

    \b
    Example:
      headrace devices --silent
    """
    from app.cli.listing import read
    from app.cli.output import hint, show_json, show_rows
    from app.device_cursor import order_of, read_cursor, write_cursor
    from app.silences import silences_of
    from app.times import utc_now
    from storage.queries.devices import DeviceFilter, DeviceSpan, devices_page

    by, descending = order_of(order or ("heard" if silent else "device"))
    try:
        span = DeviceSpan(limit, by, descending, read_cursor(after, by))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--after") from None
    settings, now = store_settings_of(config), utc_now()
    silences = silences_of(settings.sources, lambda: now)()
    page = read(settings, devices_page, DeviceFilter(product, silent, missing), span, silences)
    following = write_cursor(page.next)
    if as_json:
        show_json({"devices": page.rows, "next": following})
        return
    show_rows(_columns(now), page.rows, empty="There are no such devices.")
    if following is not None:
        hint(f"There are more: go on with --after {following}")


COMMANDS = (devices,)


def _columns(now: datetime) -> Sequence[Column]:
    def ago(time: Time | None) -> str | None:
        from app.times import age_of

        return None if time is None else f"{age_of(time, now)} ago"

    def unconfirmed(row: DeviceRow) -> str | None:
        tail = row.unconfirmed
        return None if tail is None else f"behind {tail.number}"

    return (
        *("product", "device", "source", ("last event", lambda row: ago(row.last_event))),
        *(("today", lambda row: row.events_today), ("usually", lambda row: row.events_usually), "firmware"),
        *("last_number", "missing", ("unconfirmed", unconfirmed), ("silent since", lambda row: ago(row.silent))),
    )
