"""Rows of the store in the JSON shapes of contract §5: the API and `--json` show the same."""

from __future__ import annotations

import base64
from collections.abc import Container
from datetime import datetime
from typing import Any

from app.event_json import encodable, event_json
from app.settings import masked_text
from ingest.coverage import Gap
from ingest.times import rfc3339
from storage.queries import DeadLetterRow, GapRow, HandlerRow, RejectRow


def reject_json(row: RejectRow) -> dict[str, Any]:
    """A reject with its bytes, and the attributes of its message; null where there were none."""
    reject = row.reject
    return {
        "id": row.id,
        "source": reject.source,
        "mode": reject.mode,
        "received_at": rfc3339(reject.received_at),
        "reason": reject.reason.value,
        "body_base64": base64.b64encode(reject.body).decode(),
        "attributes": encodable(reject.attributes) if reject.attributes else None,
    }


def gap_json(row: GapRow) -> dict[str, Any]:
    """A gap; of one that lasts, `until` is null and `seconds` are up to now."""
    gap = row.gap
    return {
        "id": row.id,
        "source": row.source,
        "mode": row.mode,
        "since": rfc3339(gap.since),
        "until": time_json(gap.until),
        "cause": gap.cause.value,
        "seconds": row.seconds,
        "suspected": round(gap.suspected, 3),
    }


def open_gap_json(gap: Gap, seconds: float) -> dict[str, Any]:
    """The gap that lasts, as a source shows it."""
    return {"since": rfc3339(gap.since), "cause": gap.cause.value, "seconds": seconds}


def handler_json(row: HandlerRow, failing: Container[str] = ()) -> dict[str, Any]:
    """How far a handler is; lag in events and seconds. `failing`: those that this process knows to be."""
    lag = row.lag
    state = "running" if row.running else "stopped"
    return {
        "handler": lag.handler,
        "state": "failing" if lag.handler in failing else state,
        "position": lag.position,
        "head": lag.head,
        "lag_events": max(lag.head - lag.position, 0),
        "lag_seconds": row.lag_seconds,
        "retries": lag.waiting,
        "dead": lag.dead,
        "holder": row.holder,
        "lease_expires_at": time_json(row.lease_expires_at),
    }


def dead_json(row: DeadLetterRow) -> dict[str, Any]:
    """A dead letter with its event; null where the event has expired."""
    return {
        "position": row.position,
        "error": row.error,
        "attempts": row.attempts,
        "first_failed_at": time_json(row.first_failed_at),
        "event": None if row.event is None else event_json(row.event),
    }


def reason_json(reason: str | None) -> str | None:
    """Return why a source is down; the secrets in the URLs of a library's error are masked."""
    return None if reason is None else masked_text(reason)


def time_json(at: datetime | None) -> str | None:
    """A time as it is shown, null where there is none."""
    return None if at is None else rfc3339(at)
