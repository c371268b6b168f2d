"""Rows of devices as the books keep them, written past the code that posts them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, insert

from storage.books.sql import DAY
from storage.engine import Database
from storage.rows import to_micros
from storage.tables import devices, losses, products, sequences
from tests.support.records import NOW

NOW_MICROS = to_micros(NOW)
HOUR = 3_600_000_000


def a_device(device: str, heard_ago: float | None = 0, **fields: Any) -> dict[str, Any]:
    """A device of the product `tracker` that was heard last so many hours ago; None: it sent nothing of its own."""
    last_at = NOW_MICROS - round((heard_ago or 0) * HOUR)
    return {
        "product": "tracker",
        "device": device,
        "source": "fleet",
        "position": 1,
        "first_at": last_at - 8 * DAY,
        "last_at": last_at,
        "heard_at": 0 if heard_ago is None else last_at,
        "firmware": "91",
        "day": last_at // DAY,
        "today": 3,
        "before": 96.0,
    } | fields


def a_loss(number: int, device: str, state: str = "lost", **fields: Any) -> dict[str, Any]:
    """Two numbers of a device that did not come in their turn."""
    known = {"id": number * 10, "source": "fleet", "product": "tracker", "device": device, "first": 7, "last": 8}
    return {**known, "state": state, "noticed_at": NOW_MICROS, "due_at": NOW_MICROS} | fields


def a_counter(device: str, number: int, at: int = NOW_MICROS, product: str = "tracker") -> dict[str, Any]:
    """What the Auditor knows of a device's counter."""
    return {"product": product, "device": device, "state": b"", "number": number, "at": at}


def products_of(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of the devices' products, as if all days but the last one had been one."""
    found = []
    for product in sorted({row["product"] for row in rows}):
        own = [row for row in rows if row["product"] == product]
        day = max(row["day"] for row in own)
        found.append(
            {
                "product": product,
                "devices": len(own),
                "first_at": min(row["first_at"] for row in own),
                "last_at": max(row["last_at"] for row in own),
                "day": day,
                "today": sum(row["today"] for row in own if row["day"] == day),
                "before": sum(row["before"] for row in own),
            }
        )
    return found


async def keep(
    database: Database,
    rows: Sequence[dict[str, Any]],
    lost: Sequence[dict[str, Any]] = (),
    counters: Sequence[dict[str, Any]] = (),
) -> None:
    """Write these rows."""

    def write(connection: Connection) -> None:
        known = ((devices, rows), (products, products_of(rows)), (losses, lost), (sequences, counters))
        for table, values in known:
            if values:
                connection.execute(insert(table), list(values))

    await database.write(write)
