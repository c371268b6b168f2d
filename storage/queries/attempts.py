"""Attempts of deliveries as they are shown."""

from __future__ import annotations

from msgspec import Struct

from ingest.times import Time, rfc3339
from storage.deliveries import history_of


class AttemptRow(Struct, frozen=True, kw_only=True):
    """A delivery that failed: when it ended, how many seconds it took, and what the receiver answered, if it did."""

    at: Time
    seconds: float
    status: int | None
    cause: str
    error: str


EXAMPLE = AttemptRow(
    at="2026-07-28T16:53:05.800Z", seconds=0.021, status=503, cause="server_error", error="answered 503: try later"
)


def attempts_of(history: str | None) -> list[AttemptRow]:
    """Return the attempts that a row of `deliveries` keeps: the first, and the last twenty of the others."""
    return [
        AttemptRow(
            at=rfc3339(attempt.at),
            seconds=attempt.seconds,
            status=attempt.status,
            cause=attempt.cause,
            error=attempt.error,
        )
        for attempt in history_of(history)
    ]
