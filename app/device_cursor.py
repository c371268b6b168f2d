"""Where a list of devices goes on: what `next` of a page is, and what is handed back as `after`."""

from __future__ import annotations

import base64
from typing import Annotated, Any

import msgspec

from storage.queries.devices import Cursor, Order

_Time = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]


def write_cursor(cursor: Cursor | None) -> str | None:
    """Return where to go on in letters that need no escaping; None at the end."""
    return None if cursor is None else base64.urlsafe_b64encode(msgspec.json.encode(cursor)).decode().rstrip("=")


def read_cursor(text: str | None, order: Order) -> Cursor | None:
    """Return what was written for an order. Raises ValueError."""
    if text is None:
        return None
    wanted: Any = tuple[str, str] if order == "device" else tuple[_Time, str, str, str]
    try:
        written = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        found: Cursor = msgspec.json.decode(written, type=wanted)
    except (ValueError, msgspec.DecodeError):
        raise ValueError("expected the `next` of a page in the same order") from None
    if any("\0" in part for part in found if isinstance(part, str)):
        raise ValueError("expected the `next` of a page in the same order")
    return found


def order_of(text: str) -> tuple[Order, bool]:
    """Return by what "device", "-device", "heard" or "-heard" orders, and whether backwards."""
    return "heard" if text.endswith("heard") else "device", text.startswith("-")
