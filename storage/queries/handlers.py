"""Handlers: where each stands in the feed, and what it left waiting."""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from sqlalchemy import Connection, select

from ingest.deliveries import CircuitState, HandlerLag
from ingest.times import Time, rfc3339
from storage.clock import database_now
from storage.deliveries import lag as lag_of
from storage.queries.times import as_time_or_none
from storage.rows import to_micros
from storage.sequences import OF_HANDLERS
from storage.tables import cursors


class HandlerRow(Struct, frozen=True, kw_only=True):
    """One handler. `retries`: events that wait for another try. `lag_seconds`: age of the oldest one behind.

    `state`: running, standby (another process has its lease), paused, stopped, or failing (its circuit is not closed,
    or its own code is at fault). `holder` is the process that has its lease, until `lease_expires_at`.
    """

    handler: str
    state: str
    position: int
    head: int
    lag_events: int
    lag_seconds: float
    retries: int
    dead: int
    circuit: str
    circuit_since: Time | None
    last_error: str | None
    paused_at: Time | None
    paused_because: str | None
    holder: str | None
    lease_expires_at: Time | None


EXAMPLE = HandlerRow(
    handler="alerts",
    state="running",
    position=1040,
    head=1042,
    lag_events=2,
    lag_seconds=0.013,
    retries=1,
    dead=1,
    circuit="closed",
    circuit_since=None,
    last_error="answered 503",
    paused_at=None,
    paused_because=None,
    holder="gateway-1:4711",
    lease_expires_at="2026-07-28T16:53:15.000Z",
)


def handler_rows(connection: Connection) -> list[HandlerRow]:
    """Return every handler that has a cursor, by name. It is stopped where no lease holds by the database's clock."""
    now = database_now(connection)
    rows = connection.execute(select(cursors).where(OF_HANDLERS).order_by(cursors.c.handler)).all()
    return [_handler_row(row, lag, now) for row in rows if (lag := lag_of(connection, row.handler)) is not None]


def handler_names(connection: Connection) -> list[str]:
    """Return the names of all handlers that have a cursor."""
    return list(connection.execute(select(cursors.c.handler).where(OF_HANDLERS).order_by(cursors.c.handler)).scalars())


def handler_exists(connection: Connection, handler: str) -> bool:
    """Return True where a handler of this name has a cursor."""
    found = select(cursors.c.handler).where(cursors.c.handler == handler, OF_HANDLERS)
    return connection.execute(found).first() is not None


def _handler_row(row: Any, lag: HandlerLag, now: int) -> HandlerRow:
    leased = row.holder is not None and row.expires_at is not None and row.expires_at > now
    return HandlerRow(
        handler=lag.handler,
        state=_state(lag, leased=leased),
        position=lag.position,
        head=lag.head,
        lag_events=max(lag.head - lag.position, 0),
        lag_seconds=0.0 if lag.oldest is None else max(now - to_micros(lag.oldest), 0) / 1_000_000,
        retries=lag.waiting,
        dead=lag.dead,
        circuit=lag.circuit.state.value,
        circuit_since=None if lag.circuit.since is None else rfc3339(lag.circuit.since),
        last_error=lag.circuit.last_error,
        paused_at=None if lag.pause is None else rfc3339(lag.pause.since),
        paused_because=None if lag.pause is None else lag.pause.because,
        holder=row.holder,
        lease_expires_at=as_time_or_none(row.expires_at),
    )


def _state(lag: HandlerLag, *, leased: bool) -> str:
    """Return what the store alone knows; which of its readers runs the handler is the reader's to say."""
    if lag.pause is not None:
        return "paused"
    if not leased:
        return "stopped"
    return "running" if lag.circuit.state is CircuitState.CLOSED else "failing"
